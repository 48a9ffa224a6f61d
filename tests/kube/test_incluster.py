"""The login of a pod: by the files and variables that Kubernetes gives it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gangplan.errors import InputError
from gangplan.kube import incluster
from gangplan.kube.api import connect


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a pod's account."""
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("an authority")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    monkeypatch.setattr(incluster, "FOLDER", tmp_path)
    return tmp_path


def test_it_is_where_the_variables_say(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of version 6 is bracketed."""
    assert incluster.PodLogin().host == "https://10.0.0.1:6443"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert incluster.PodLogin().host == "https://[fd00::1]:6443"


def test_a_renewed_token_is_read(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, not at each call."""
    login = incluster.PodLogin()
    (account / "token").write_text("second\n")
    assert login.headers() == {"authorization": "Bearer first"}
    monkeypatch.setattr(incluster, "READ_AGAIN_S", -1.0)
    assert login.headers() == {"authorization": "Bearer second"}


@pytest.mark.parametrize("file", ["token", "ca.crt"])
def test_a_pod_without_an_account_is_told_so(account: Path, file: str) -> None:
    """The file is named that should be there."""
    (account / file).unlink()
    with pytest.raises(InputError, match=rf"{file}.*give the pod an account"):
        connect()


def test_a_pod_logs_in_without_the_official_client(account: Path) -> None:
    """Whose import would be a third of a step's start."""
    code = f"""
import sys
from pathlib import Path
from gangplan.kube import incluster
from gangplan.kube.api import connect
incluster.FOLDER = Path({str(account)!r})
assert connect().shown == "cluster of this pod"
assert "kubernetes" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
