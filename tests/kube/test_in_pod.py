"""A pod reaches its own cluster by what Kubernetes gives it, and without the official client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gangplan.errors import InputError
from gangplan.kube import connect, in_pod


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a pod's account, and the address of its cluster."""
    monkeypatch.setattr(in_pod, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("a certificate")
    return tmp_path


def test_a_token_is_read_again_before_it_expires(account: Path) -> None:
    """The kubelet puts another one there."""
    now = 0.0
    login = in_pod.Login(lambda: now)
    (account / "token").write_text("second\n")
    now = 59.0
    assert login() == {"authorization": "Bearer first"}
    now = 60.0
    assert login() == {"authorization": "Bearer second"}


@pytest.mark.parametrize(("host", "url"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")])
def test_the_address_is_that_of_the_service(
    account: Path, monkeypatch: pytest.MonkeyPatch, host: str, url: str
) -> None:
    """Of either family."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    assert in_pod.address() == url
    assert connect().shown == "cluster of this pod"


@pytest.mark.parametrize("file", ["token", "ca.crt"])
@pytest.mark.parametrize("text", [None, ""])
def test_a_pod_without_an_account_is_told_what_to_do(account: Path, file: str, text: str | None) -> None:
    """By the file that is missing, or empty."""
    (account / file).unlink()
    if text is not None:
        (account / file).write_text(text)
    with pytest.raises(InputError, match="automountServiceAccountToken") as refused:
        connect()
    assert refused.value.value == str(account / file)


def test_an_address_without_a_port_is_refused(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than guessed."""
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "")
    with pytest.raises(InputError, match="KUBERNETES_SERVICE_PORT"):
        connect()


def test_the_official_client_is_not_imported(account: Path) -> None:
    """It takes a third of a second of each step's start."""
    code = f"""
import sys
from pathlib import Path
from gangplan.kube import connect, in_pod
in_pod.ACCOUNT = Path({str(account)!r})
connect()
assert "kubernetes" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
