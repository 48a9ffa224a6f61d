"""Webhooks: only what MLflow signed with our secret counts, and a hand-made change is recorded as it happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature
from tests.servers import answers

from gangplan import forecast
from gangplan.config import load_settings
from gangplan.errors import InputError, Refusal
from gangplan.serve import webhooks
from gangplan.tracking import MODEL, Store

SECRET = "a secret of sixteen characters or more"  # noqa: S105
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "example_model"}}).encode()


def signed(now: datetime, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    """The headers with which MLflow itself sends a body."""
    stamp = str(int(now.timestamp()))
    signature = _generate_hmac_signature(secret, "delivery-1", stamp, body.decode())
    return {"x-mlflow-delivery-id": "delivery-1", "X-MLflow-Timestamp": stamp, "X-MLFLOW-SIGNATURE": signature}


def test_what_mlflow_signed_is_taken(now: datetime) -> None:
    """Our check agrees with MLflow's own signature, whatever the case of the headers."""
    webhooks.verify(SECRET, signed(now), BODY, now + timedelta(minutes=4))


@pytest.mark.parametrize(
    ("headers", "body", "word"),
    [
        ({}, BODY + b" ", "is not ours"),
        ({"X-MLFLOW-SIGNATURE": "v1,AAAA"}, BODY, "is not ours"),
        ({"X-MLFLOW-SIGNATURE": ""}, BODY, "is not ours"),
        ({"x-mlflow-delivery-id": "delivery-2"}, BODY, "is not ours"),
        ({"X-MLflow-Timestamp": "1"}, BODY, "is not ours"),
    ],
)
def test_anything_else_is_refused(now: datetime, headers: dict[str, str], body: bytes, word: str) -> None:
    """A changed body, delivery, time or signature, and none at all."""
    with pytest.raises(Refusal, match=word):
        webhooks.verify(SECRET, {**signed(now), **headers}, body, now)
    with pytest.raises(Refusal, match="is not ours"):
        webhooks.verify("another secret, as long as that", signed(now), BODY, now)


def test_an_old_delivery_is_refused(now: datetime) -> None:
    """What was recorded on the wire cannot be played again later."""
    with pytest.raises(Refusal, match="is not within"):
        webhooks.verify(SECRET, signed(now), BODY, now + timedelta(minutes=6))


def test_other_models_ask_for_nothing_and_nonsense_is_named(mlflow_store: Store, now: datetime) -> None:
    """MLflow's test call is answered well; a signed body that is no delivery is bad input."""
    status, words = webhooks.answer(mlflow_store, SECRET, signed(now), BODY, lambda: now)
    assert (status, words) == (HTTPStatus.OK, f"ignored: 'example_model' is not {MODEL}")
    for body in (b"[]", b"{", b'{"data": 1}'):
        assert webhooks.answer(mlflow_store, SECRET, signed(now, body), body, lambda: now)[0] == HTTPStatus.BAD_REQUEST
    assert webhooks.answer(mlflow_store, SECRET, {}, BODY, lambda: now)[0] == HTTPStatus.UNAUTHORIZED
    with pytest.raises(InputError, match="is no address"):
        webhooks.subscribe(mlflow_store, "ftp://host", SECRET)


@pytest.fixture
def server(mlflow_store: Store, tmp_path: Path) -> Generator[str]:
    """A real MLflow server over a store of the test's own, that may deliver to this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = ["server", "--backend-store-uri", mlflow_store.uri, "--port", str(port), "--workers", "1"]
    with (tmp_path / "server.log").open("w") as log:
        mlflow = Path(sys.executable).parent / "mlflow"
        process = subprocess.Popen(
            [mlflow, *words], env={**os.environ, **given}, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
        )
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(f"{url}/health"), 120)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def eventually(holds: object, seconds: float) -> None:
    """Wait until something holds, and fail when it does not come about."""
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.present("MLflow's server signs what it sends by the machine's clock")
def test_a_champion_set_by_hand_is_recorded_at_once(server: str, tmp_path: Path) -> None:
    """MLflow's server tells of an alias that somebody sets; it is in the history before anybody else has looked."""
    settings = load_settings(home=tmp_path, mlflow=server)
    store, told = Store(uri=server), []
    given = {"secret": SECRET, "host": "127.0.0.1", "port": 0, "log": told.append}
    threading.Thread(target=webhooks.serve, args=[settings], kwargs=given, daemon=True).start()
    eventually(lambda: told, 30)
    url = told[0].removeprefix("listening on ")
    webhook = webhooks.subscribe(store, url, SECRET)
    assert webhooks.subscribe(store, url, SECRET) != webhook
    assert [one.url for one in store.client.list_webhooks()] == [url]
    store.client.create_registered_model(MODEL)
    store.client.create_model_version(MODEL, "s3://nowhere/model", tags={"gangplan.by": "grace"})
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    eventually(lambda: any("recorded" in words for words in told), 30)
    assert "recorded: version 1 made champion by hand by grace" in told
    (change,) = forecast.history(store)
    assert datetime.now(UTC) - change.at < timedelta(minutes=1)
