# pyright: reportUnknownMemberType=false
"""MLflow's webhooks: a change of alias that somebody makes by hand is recorded when it happens, not when we next look.

A delivery is signed as MLflow signs it (Standard Webhooks): HMAC-SHA256 over `<delivery id>.<timestamp>.<body>`, in
base64 behind `v1,`. One that is not, or that is older than five minutes, changes nothing. What it says is not believed
either: it only makes us look at the registry, so that a delivery that is lost, late or comes twice does no harm.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.webhooks.constants import (
    WEBHOOK_DELIVERY_ID_HEADER,
    WEBHOOK_SIGNATURE_HEADER,
    WEBHOOK_SIGNATURE_VERSION,
    WEBHOOK_TIMESTAMP_HEADER,
)

from gangplan import forecast
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings
from gangplan.errors import GangplanError, InputError, Refusal, UnavailableError
from gangplan.tracking import MODEL, Store, open_store

OLDEST = timedelta(minutes=5)
MOST_BYTES = 1 << 20
WEBHOOK = "gangplan.review"
EVENTS = (
    WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.DELETED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_TAG, WebhookAction.SET),
)


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Sign a delivery as MLflow does."""
    content = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    return f"{WEBHOOK_SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Refuse a delivery that MLflow did not sign with our secret within the last minutes.

    Raises
    ------
    Refusal
        When the signature is missing or wrong, or the time is.
    """
    given = {name.lower(): value for name, value in headers.items()}
    names = (WEBHOOK_DELIVERY_ID_HEADER, WEBHOOK_TIMESTAMP_HEADER, WEBHOOK_SIGNATURE_HEADER)
    delivery, timestamp, signature = (given.get(name.lower(), "") for name in names)
    if not hmac.compare_digest(signature.encode(), sign(secret, delivery, timestamp, body).encode()):
        raise Refusal(f"{WEBHOOK_SIGNATURE_HEADER}: is not ours: give MLflow's webhook the same secret")
    age = now - datetime.fromtimestamp(int(timestamp), UTC) if timestamp.isdigit() else None
    if age is None or abs(age) > OLDEST:
        raise Refusal(f"{WEBHOOK_TIMESTAMP_HEADER}: {timestamp!r} is not within {OLDEST}: was it sent twice?")


def handle(store: Store, body: bytes, clock: Clock) -> str:
    """Do what a delivery asks for, and say what that was; another model's, and MLflow's test call, ask for nothing.

    Raises
    ------
    InputError
        When the body is no delivery of MLflow's.
    """
    try:
        said: dict[str, Any] = json.loads(body)
        name = said["data"]["name"]
    except (ValueError, TypeError, KeyError):
        raise InputError("body", body[:80].decode(errors="replace"), "is no delivery of MLflow's") from None
    if name != MODEL:
        return f"ignored: {str(name)[:80]!r} is not {MODEL}"
    change = forecast.record_manual_changes(store, clock)
    return "nothing new" if change is None else f"recorded: version {change.version} {change.action} by {change.by}"


def subscribe(store: Store, url: str, secret: str) -> str:
    """Have MLflow's server deliver to that address; return the webhook's id. One that is there for it is replaced."""
    if not url.startswith(("http://", "https://")):
        raise InputError("url", url, "is no address: give https://host/path, where `gangplan review listen` is reached")
    try:
        for old in store.client.list_webhooks():
            if old.url == url:
                store.client.delete_webhook(old.webhook_id)
        made = store.client.create_webhook(name=WEBHOOK, url=url, events=list(EVENTS), secret=secret)
    except MlflowException as error:
        raise UnavailableError(f"mlflow: no webhook could be made: {error}") from error
    return str(made.webhook_id)


def serve(
    settings: Settings,
    *,
    secret: str,
    host: str,
    port: int,
    told: Callable[[str], None],
    clock: Clock = system_clock,
) -> None:
    """Take deliveries until the process is interrupted."""
    store = open_store(settings)
    with ThreadingHTTPServer((host, port), _handler(store, secret, told, clock)) as server:
        told(f"listening on http://{host}:{server.server_address[1]}/")
        server.serve_forever()


def answer(store: Store, secret: str, headers: Mapping[str, str], body: bytes, clock: Clock) -> tuple[int, str]:
    """Return the status and the words with which a delivery is answered."""
    try:
        verify(secret, headers, body, clock())
        return HTTPStatus.OK, handle(store, body, clock)
    except Refusal as error:
        return HTTPStatus.UNAUTHORIZED, str(error)
    except InputError as error:
        return HTTPStatus.BAD_REQUEST, str(error)
    except (GangplanError, MlflowException) as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error)  # MLflow delivers it again


def _handler(store: Store, secret: str, told: Callable[[str], None], clock: Clock) -> type[BaseHTTPRequestHandler]:
    """Return what answers one connection."""

    class Delivery(BaseHTTPRequestHandler):
        """One delivery."""

        timeout = 10  # a connection that says nothing holds its thread no longer

        def do_POST(self) -> None:
            """Check it, act on it, answer it."""
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            status, words = answer(store, secret, dict(self.headers), self.rfile.read(int(length)), clock)
            told(words)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(words.encode())
            return None

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing beside `told`."""

    return Delivery
