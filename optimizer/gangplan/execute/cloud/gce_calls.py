"""Clients of Compute Engine, and its refusals as our errors.

The library's `operation.result()` opens a client of its own, with default credentials, to Google's public endpoint. So
each call here is a `_unary` one, and operations are waited for by our own client.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from gangplan.errors import (
    CapacityError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from gangplan.extras import needs_extras

Message: TypeAlias = Any
"""A message, or a client, of Google's library, whose fields have no types."""

_CALL_S, _RETRY_S = 30.0, 20.0
_WAIT_S, _OPERATION_S = 150.0, 120.0  # a wait is answered within two minutes
_LACKING = ("POOL_EXHAUSTED", "STOCKOUT", "INSUFFICIENT_CAPACITY")
_LOCAL = "http://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The clients that groups need, all of one endpoint."""

    groups: Message
    requests: Message
    instances: Message
    operations: Message

    def close(self) -> None:
        """Close all of them."""
        for each in (self.groups, self.requests, self.instances, self.operations):
            each.transport.close()


def connect(endpoint: str = "") -> Clients:
    """Open clients with application default credentials; a server of tests, `http://...`, gets none.

    Raises
    ------
    ForbiddenError
        There are no credentials.
    MissingExtraError
        google-cloud-compute is not installed.
    """
    library = messages()
    with calling("Compute Engine"):
        return Clients(
            groups=_open(library.InstanceGroupManagersClient, endpoint),
            requests=_open(library.InstanceGroupManagerResizeRequestsClient, endpoint),
            instances=_open(library.InstancesClient, endpoint),
            operations=_open(library.ZoneOperationsClient, endpoint),
        )


def messages() -> Message:
    """Return Google's library, for its messages."""
    with needs_extras():
        from google.cloud import compute_v1
    return compute_v1


def _open(client: Any, endpoint: str) -> Any:
    """Return a client of that class; its transport is the one way to tell the library not to use TLS."""
    if not endpoint.startswith(_LOCAL):
        return client(client_options={"api_endpoint": endpoint} if endpoint else None)
    from google.auth.credentials import AnonymousCredentials

    host = endpoint.removeprefix(_LOCAL)
    transport = client.get_transport_class("rest")
    return client(transport=transport(host=host, url_scheme="http", credentials=AnonymousCredentials()))


def reading(timeout: float = _CALL_S) -> dict[str, Any]:
    """Return how a call that only reads is made: again for some seconds, where that can help."""
    from google.api_core import retry

    library: Any = retry
    return {"timeout": timeout, "retry": library.Retry(initial=0.2, maximum=2.0, timeout=_RETRY_S)}


def writing() -> dict[str, Any]:
    """Return how a call that changes something is made: once."""
    return {"timeout": _CALL_S, "retry": None}


@contextmanager
def calling(shown: str) -> Generator[None]:
    """Turn what Google refuses, and a Google that cannot be reached, into our errors."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from requests.exceptions import RequestException

    try:
        yield
    except (auth.TransportError, RequestException, api.RetryError) as error:
        raise UnavailableError(f"{shown}: Compute Engine cannot be reached ({error})") from error
    except auth.GoogleAuthError as error:
        remedy = "run `gcloud auth application-default login`, or give this process a service account"
        raise ForbiddenError(f"{shown}: no credentials of Google Cloud ({error}): {remedy}") from error
    except api.GoogleAPICallError as error:
        told: Message = error
        reasons: list[dict[str, Any]] = told.errors
        codes = [str(each.get("reason", "")) for each in reasons]
        raise refusal(told.code or 0, codes, f"{shown}: {told.message}") from error


def refusal(status: int, codes: Iterable[str], words: str) -> Exception:
    """Return our error for a status and the codes of Google."""
    if any(lack in code.upper() for code in codes for lack in _LACKING):
        return CapacityError(words)
    if status in (401, 403):
        return ForbiddenError(words)
    if status == 404:
        return NotFoundError(words)
    if status in (409, 412):
        return ConflictError(words)
    return UnavailableError(words) if status == 429 or status >= 500 else RejectedError(words)


def done(clients: Clients, project: str, zone: str, operation: Message, shown: str) -> None:
    """Wait until Google has taken an operation on; one that failed is an error in its words.

    Raises
    ------
    UnavailableError
        It is still under way after two minutes: observe again.
    """
    deadline = time.monotonic() + _OPERATION_S
    while operation.status != messages().Operation.Status.DONE:
        if time.monotonic() > deadline:
            raise UnavailableError(f"{shown}: operation {operation.name} is still under way: look again")
        with calling(shown):
            operation = clients.operations.wait(
                project=project, zone=zone, operation=operation.name, **reading(_WAIT_S)
            )
    if errors := list(operation.error.errors):
        words = "; ".join(f"{each.message} ({each.code})" for each in errors)
        raise refusal(operation.http_error_status_code, [each.code for each in errors], f"{shown}: {words}")
