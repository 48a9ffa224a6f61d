"""MLflow's webhooks: a change of alias that somebody makes by hand is recorded when it happens.

MLflow signs a delivery (Standard Webhooks): HMAC-SHA256 over `<delivery id>.<timestamp>.<body>`, in base64 after `v1,`.
A delivery with another signature, or older than five minutes, is refused. The content of a delivery is not used: it
only makes us read the registry, so a delivery that is lost, late or repeated does no harm.
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
from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import GangplanError, InputError, Refusal, UnavailableError
from gangplan.tracking import MODEL, Store, open_store
from gangplan.urls import without_secrets

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
    """Return the signature that MLflow gives to a delivery."""
    content = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    return f"{WEBHOOK_SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Refuse a delivery that MLflow did not sign with our secret within the last five minutes.

    Raises
    ------
    Refusal
        When the signature or the time is missing or wrong.
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
    """Act on a delivery and return what was done; one about another model, or MLflow's test call, is ignored.

    Raises
    ------
    InputError
        When the body is not a delivery of MLflow's.
    """
    try:
        content: dict[str, Any] = json.loads(body)
        name = content["data"]["name"]
    except (ValueError, TypeError, KeyError):
        raise InputError("body", body[:80].decode(errors="replace"), "is no delivery of MLflow's") from None
    if name != MODEL:
        return f"ignored: {str(name)[:80]!r} is not {MODEL}"
    change = forecast.record_manual_changes(store, clock)
    return "nothing new" if change is None else f"recorded: version {change.version} {change.action} by {change.by}"


def subscribe(store: Store, url: str, secret: str) -> str:
    """Make MLflow's server deliver to a URL, in place of an earlier webhook for it; return the webhook's id."""
    if not url.startswith(("http://", "https://")):
        raise InputError("url", url, "is no address: give https://host/path, where `gangplan review listen` is reached")
    try:
        client: Any = store.client
        for webhook in client.list_webhooks():
            if webhook.url == url:
                client.delete_webhook(webhook.webhook_id)
        webhook = client.create_webhook(name=WEBHOOK, url=url, events=list(EVENTS), secret=secret)
    except MlflowException as error:
        why = " ".join(without_secrets(str(error), url).split())
        raise UnavailableError(f"mlflow: no webhook could be made: {why}") from None
    return str(webhook.webhook_id)


def serve(
    settings: Settings,
    *,
    secret: str,
    host: str,
    port: int,
    log: Callable[[str], None],
) -> None:
    """Receive deliveries until the process is interrupted; `log` gets a line for each."""
    store = open_store(settings)
    with ThreadingHTTPServer((host, port), _handler(store, secret, log, settings.clock)) as server:
        log(f"listening on http://{host}:{server.server_address[1]}/")
        server.serve_forever()


def answer(store: Store, secret: str, headers: Mapping[str, str], body: bytes, clock: Clock) -> tuple[int, str]:
    """Return the HTTP status and the text of the answer to a delivery."""
    try:
        verify(secret, headers, body, clock())
        return HTTPStatus.OK, handle(store, body, clock)
    except Refusal as error:
        return HTTPStatus.UNAUTHORIZED, str(error)
    except InputError as error:
        return HTTPStatus.BAD_REQUEST, str(error)
    except (GangplanError, MlflowException) as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error)  # MLflow delivers it again


def _handler(store: Store, secret: str, log: Callable[[str], None], clock: Clock) -> type[BaseHTTPRequestHandler]:
    """Return the class that handles one connection."""

    class Delivery(BaseHTTPRequestHandler):
        """One delivery."""

        timeout = 10  # seconds: a silent connection does not occupy its thread for longer

        def do_POST(self) -> None:
            """Check a delivery, act on it, answer it."""
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            status, words = answer(store, secret, dict(self.headers), self.rfile.read(int(length)), clock)
            log(words)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(words.encode())
            return None

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing; `log` gets the line."""

    return Delivery
