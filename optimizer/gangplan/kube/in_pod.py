"""How a pod reaches its own cluster: by the address, the certificate and the token that Kubernetes gives every pod.

The official client would read the same, and takes a third of a second to import: a step of a pipeline starts without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gangplan.errors import InputError
from gangplan.extras import needs_extras

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its account."""

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_TOKEN_S = 60.0
"""Seconds after which the token is read again: the kubelet puts another one there before it expires."""


def in_pod() -> bool:
    """Tell whether this is a pod."""
    return _HOST in os.environ


def address() -> str:
    """Return the address of the pod's cluster."""
    host, port = os.environ.get(_HOST, ""), os.environ.get(_PORT, "")
    if not host or not port:
        raise InputError(_PORT if host else _HOST, "", "is empty: Kubernetes sets it in every pod, leave it as it is")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def pool_of(connections: int) -> Any:
    """Return a pool of so many connections that trust the cluster's certificate."""
    with needs_extras():
        from urllib3 import PoolManager
    file = ACCOUNT / "ca.crt"
    _read(file)
    return PoolManager(maxsize=connections, cert_reqs="CERT_REQUIRED", ca_certs=str(file))


class Login:
    """The headers that log in as the pod's account."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._headers, self._until = self._fresh(), monotonic() + _TOKEN_S

    def __call__(self) -> dict[str, str]:
        """Return them."""
        if self._monotonic() >= self._until:
            self._headers, self._until = self._fresh(), self._monotonic() + _TOKEN_S
        return self._headers

    def _fresh(self) -> dict[str, str]:
        return {"authorization": f"Bearer {_read(ACCOUNT / 'token')}"}


def _read(file: Path) -> str:
    """Read a file of the account; it may not be empty."""
    try:
        text = file.read_text().strip()
    except OSError as error:
        text, why = "", f"cannot be read ({error.strerror})"
    else:
        why = "is empty"
    if not text:
        remedy = "give the pod an account (automountServiceAccountToken), or set KUBECONFIG and name a context"
        raise InputError("kubeconfig", str(file), f"{why}: {remedy}")
    return text
