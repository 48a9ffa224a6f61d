"""A tracking server is asked as MLflow's own client asks it; one that is down or refuses us is one line."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gangplan import telemetry
from gangplan.config import Settings
from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.testing import NOW
from gangplan.tracking import Store, open_store, require_answer

BASIC = "Basic " + base64.b64encode(b"ada:s3cr@t/%").decode()
BEARER = "Bearer made-up-token"


@dataclass
class Gateway:
    """A tracking server behind a proxy: what it answers, and who asked for what."""

    url: str = ""
    wanted: str = ""
    status: int = 200
    text: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def answer(self, path: str, sent: str) -> tuple[int, str]:
        """Return the status and the text of an answer."""
        self.asked.append((path, sent))
        if self.wanted and sent != self.wanted:
            return 401, "Unauthorized"
        if self.status != 200 or self.text:
            return self.status, self.text
        run = {
            "info": {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "FINISHED"}
            | {"start_time": 1_772_438_400_000, "end_time": 1_772_442_000_000, "lifecycle_stage": "active"},
            "data": {"tags": [{"key": "gangplan.event.kind", "value": "release"}]},
        }
        if "runs/search" in path:
            return 200, json.dumps({"runs": [run]})
        return 200, json.dumps(
            {"experiments": [{"experiment_id": "1", "name": "calendar", "lifecycle_stage": "active"}]}
        )


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A server that runs while the test does; MLflow's client tries once."""
    known = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = known.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield known
    server.shutdown()


def as_in_the_url(gateway: Gateway) -> str:
    """The address with user and password in it, quoted."""
    return gateway.url.replace("http://", "http://ada:s3cr%40t%2F%25@")


@pytest.mark.parametrize(
    ("wanted", "variables"),
    [
        (BASIC, {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "s3cr@t/%"}),
        (BEARER, {"MLFLOW_TRACKING_TOKEN": "made-up-token"}),
        (BASIC, {}),
    ],
)
def test_credentials_go_with_every_call(
    wanted: str, variables: dict[str, str], gateway: Gateway, mlflow_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's own variables, or the URL: for the first question, the list and the history."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    gateway.wanted = wanted
    url = gateway.url if variables else as_in_the_url(gateway)
    open_store(Settings(mlflow=url))
    told = telemetry.announce(f"mlflow+{url}", mlflow_store, clock=lambda: NOW)
    assert told.rows["kind"].to_list() == ["release"]
    assert told.source == f"mlflow+{gateway.url}"
    with pytest.raises(InputError, match="no run kept a GPU busy"):
        telemetry.ingest(f"mlflow+{url}", mlflow_store, seed=7, clock=lambda: NOW)
    assert mlflow_store.folder is not None
    kept = [path.read_bytes() for path in mlflow_store.folder.rglob("*") if path.is_file()]
    assert not any(b"s3cr" in content for content in kept)
    assert {sent for _, sent in gateway.asked} == {wanted}
    assert len(gateway.asked) >= 6


@pytest.mark.parametrize(
    ("status", "text", "error", "says"),
    [
        (401, "who?", InputError, r"refused us \(401\): set MLFLOW_TRACKING_USERNAME"),
        (403, "no", InputError, r"refused us \(403\): set MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding attack detected", InputError, "--allowed-hosts"),
        (503, "busy", UnavailableError, "answered 503: try again"),
        (429, "slow down", UnavailableError, "answered 429: try again"),
        (404, "not found", InputError, "does not speak MLflow's API"),
        (200, "<html>log in</html>", InputError, "does not speak MLflow's API .* MLFLOW_TRACKING_TOKEN"),
    ],
)
def test_refusal_is_one_line_without_the_password(
    status: int, text: str, error: type[GangplanError], says: str, gateway: Gateway, mlflow_store: Store
) -> None:
    """Our own store, and one that is only read: each says what to do."""
    gateway.status, gateway.text = status, text
    url = as_in_the_url(gateway)
    for call in (
        lambda: open_store(Settings(mlflow=url)),
        lambda: telemetry.ingest(f"mlflow+{url}", mlflow_store, seed=7, clock=lambda: NOW),
        lambda: telemetry.announce(f"mlflow+{url}", mlflow_store, clock=lambda: NOW),
    ):
        with pytest.raises(error, match=says) as refused:
            call()
        assert "s3cr" not in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("status", "code"), [(503, 4), (500, 4), (401, 2)])
def test_store_that_fails_later_is_one_line_too(status: int, code: int, gateway: Gateway) -> None:
    """A call in the middle of the work: the exit code says whether to try again."""
    store = open_store(Settings(mlflow=as_in_the_url(gateway)))
    assert store.experiment_names() == {"1": "calendar"}
    gateway.status, gateway.text = status, "gone"
    with pytest.raises(GangplanError) as failed:
        store.experiment_names()
    assert failed.value.exit_code == code
    assert "s3cr" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_address_with_parameters_is_refused(gateway: Gateway) -> None:
    """MLflow would put its paths behind them."""
    with pytest.raises(InputError, match="has parameters") as refused:
        require_answer(f"{gateway.url}?token=s3cret")
    assert "s3cret" not in str(refused.value)
    assert not gateway.asked


@pytest.mark.parametrize("url", ["http://ada:s3cret@127.0.0.1:1", "postgresql://ada:s3cret@127.0.0.1:1/mlflow"])
def test_store_that_is_down_is_unavailable_at_once(url: str, mlflow_store: Store) -> None:
    """Nothing listens: no minutes of retries, no trace, whichever library is refused."""
    for call in (
        lambda: open_store(Settings(mlflow=url)).client.search_experiments(),
        lambda: telemetry.ingest(f"mlflow+{url}", mlflow_store, seed=7, clock=lambda: NOW),
        lambda: telemetry.announce(f"mlflow+{url}", mlflow_store, clock=lambda: NOW),
    ):
        with pytest.raises(
            UnavailableError, match=r"mlflow: .*127.0.0.1:1.* cannot be reached \(.*: try again"
        ) as down:
            call()
        assert "s3cret" not in str(down.value)


def test_file_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").touch()
    with pytest.raises(GangplanError) as failed:
        _ = Store(uri=f"sqlite:///{tmp_path}/file/mlflow.db").client
    assert failed.value.exit_code == 4
