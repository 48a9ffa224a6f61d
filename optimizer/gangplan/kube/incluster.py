"""The login of a pod, by what Kubernetes gives every pod: variables, and files that the kubelet renews.

The official client can do it, too. But its import takes 0.4 s, a third of the time in which a pipeline's step begins.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its account."""

READ_AGAIN_S = 60.0
"""How long a token is used before its file is read again; the kubelet renews it long before it expires."""


class PodLogin:
    """How this pod reaches its API server, and as whom.

    Raises
    ------
    OSError
        A file is not there: the pod has no account (`automountServiceAccountToken: false`).
    """

    def __init__(self) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        self.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self.authority = FOLDER / "ca.crt"
        self._file = FOLDER / "token"
        self._token, self._read = self._file.read_text().strip(), time.monotonic()
        self.authority.read_bytes()

    def headers(self) -> dict[str, str]:
        """Return the headers of a call; a token that has been used for long is read again."""
        if time.monotonic() - self._read > READ_AGAIN_S:
            self._token, self._read = self._file.read_text().strip(), time.monotonic()
        return {"authorization": f"Bearer {self._token}"}
