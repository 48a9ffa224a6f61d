"""Calls of the Kubernetes API with plain JSON objects, retried where that can help.

The official client reads a kubeconfig and logs in; a pod needs none. Its generated models are not used: most objects
here are of kinds that it has no models for, and the models need several times the memory.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import urlencode

from pydantic_core import from_json

from gangplan.errors import (
    ConflictError,
    ForbiddenError,
    GangplanError,
    InputError,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from gangplan.extras import needs_extras
from gangplan.kube.in_pod import Login, address, in_pod, pool_of

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object, or a part of one, as plain JSON values."""

MANAGER = "gangplan"
"""Our field manager: by this name, server-side apply knows which fields we own."""

EXECUTOR = "gangplan-execute"
"""The field manager of what carries plans out: what it owns stands apart from what reservations own."""

CONNECTIONS = 64
READ_S = 30.0
PATIENCE_S = 20.0
"""All retries of one call together end after so many seconds."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_AGAIN = {429, 500, 502, 503, 504}
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""The Accept header of a list that should hold the metadata of its objects only."""

_JSON, _APPLY, _MERGE = "application/json", "application/apply-patch+yaml", "application/merge-patch+json"
_PATCH = "application/json-patch+json"
_HOOK = "admission webhook "
"""So begins the message where a webhook refuses a call, with the status of a right that is missing."""


class GoneError(GangplanError):
    """The cluster no longer knows the changes since that version: list again."""


class Api:
    """A connection to one cluster, safe to use from many threads."""

    def __init__(self, pool: Any, host: str, auth: Callable[[], Mapping[str, str]], *, shown: str) -> None:
        self._pool = pool
        self._host = host
        self._auth = auth
        self.shown = shown
        self._may_write: Callable[[], None] = _nothing

    def guarded(self, may_write: Callable[[], None]) -> Api:
        """Return this connection with a guard, which is called before each try of a write and keeps it back by raising.

        A write that is tried again for seconds may come when somebody else is to write by now.
        """
        guarded = Api(self._pool, self._host, self._auth, shown=self.shown)
        guarded._may_write = may_write
        return guarded

    def get(self, path: str, **query: str) -> Object:
        """Return an object, or a list of them."""
        return self.call("GET", path, query=query)

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Create an object; raises ConflictError where one of that name exists."""
        return self.call("POST", path, body, query={"fieldManager": MANAGER, **query})

    def apply(self, path: str, body: Object, **query: str) -> Object:
        """Own and set these fields (server-side apply); a resourceVersion in the body must be the present one."""
        query = {"fieldManager": MANAGER, "force": "true", **query}
        return self.call("PATCH", path, body, query=query, kind=_APPLY)

    def merge(self, path: str, body: Object, **query: str) -> Object:
        """Set these fields, whoever owns them; a resourceVersion in the body must be the present one."""
        return self.call("PATCH", path, body, query={"fieldManager": MANAGER, **query}, kind=_MERGE)

    def patch(self, path: str, operations: list[Object], **query: str) -> Object:
        """Carry out the operations of a JSON Patch, all or none.

        A `test` that fails raises RejectedError, as a value that the object may not have.
        """
        return self.call("PATCH", path, operations, query={"fieldManager": MANAGER, **query}, kind=_PATCH)

    def delete(self, path: str, **options: Any) -> Object:
        """Delete an object; raises NotFoundError where it does not exist."""
        return self.call("DELETE", path, options or None)

    def call(
        self,
        verb: str,
        path: str,
        body: Object | list[Object] | None = None,
        *,
        query: Mapping[str, str] = {},
        kind: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        """Make a call, and retry it with jitter for up to `PATIENCE_S` seconds while the cluster is busy or away."""
        data = None if body is None else json.dumps(body).encode()
        deadline, pause = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            if verb != "GET":
                self._may_write()
            status, answer, after = self._once(verb, self._url(path, query), data, self._headers(kind, accept))
            if status < 300:
                return self._object(answer, path)
            wait = max(after, pause * random.uniform(0.5, 1.5))
            if status not in _AGAIN or time.monotonic() + wait > deadline:
                raise _error(status, answer, f"{verb} {path}", self.shown)
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _object(self, answer: bytes, path: str) -> Object:
        """Read an answer, which must be an object in JSON."""
        with suppress(ValueError):
            body: Object | str = from_json(answer)
            if isinstance(body, dict):
                return body
        raise UnavailableError(f"{self.shown}: {path} answered no object: is this a Kubernetes API server?")

    def _once(self, verb: str, url: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes, float]:
        """Make a call once; an unreachable cluster counts as status 503, with the error as its text."""
        from urllib3.exceptions import HTTPError

        try:
            answer = self._pool.request(verb, url, body=data, headers=headers, timeout=READ_S, retries=False)
        except HTTPError as error:
            return 503, str(error).encode(), 0.0
        after = answer.headers.get("Retry-After", "0")
        return answer.status, answer.data, float(after) if after.isdigit() else 0.0

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        return f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")

    def _headers(self, kind: str, accept: str = _JSON) -> dict[str, str]:
        return {"Content-Type": kind, "Accept": accept, "User-Agent": "gangplan", **self._auth()}

    def items(self, path: str, *, accept: str = _JSON, **query: str) -> Iterator[Object]:
        """Yield all objects of a list."""
        for page in self.pages(path, accept=accept, **query):
            yield from page["items"] or ()  # an empty list of metadata comes as null

    def pages(self, path: str, *, accept: str = _JSON, **query: str) -> Iterator[Object]:
        """Yield a list in pages of 500 objects; all are of one version, which the first page names."""
        more: Mapping[str, str] = {}
        while True:
            page = self.call("GET", path, query={"limit": "500", **query, **more}, accept=accept)
            if not isinstance(page.get("metadata"), dict) or not isinstance(
                page.setdefault("items", None), list | None
            ):
                raise UnavailableError(f"{self.shown}: {path} answered no list: is this a Kubernetes API server?")
            yield page
            token = page["metadata"].get("continue")
            if not token:
                return
            more = {"continue": token}

    @contextmanager
    def watch(self, path: str, version: str, *, seconds: int, **query: str) -> Generator[Stream]:
        """Open a stream of the changes after a version; raises GoneError where the version is too old."""
        asked = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, **query}
        with self._open(path, {**asked, "timeoutSeconds": str(seconds)}, seconds + 5) as answer:
            yield Stream(answer, self.shown)

    @contextmanager
    def follow(self, path: str, *, quiet_s: float, **query: str) -> Generator[Lines]:
        """Open a stream of text, such as a pod's log; it breaks off where nothing comes for so long."""
        with self._open(path, query, quiet_s) as answer:
            yield Lines(answer, self.shown)

    @contextmanager
    def _open(self, path: str, query: Mapping[str, str], quiet_s: float) -> Generator[Any]:
        """Open an answer that is read while it comes."""
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        try:
            answer = self._pool.request(
                "GET",
                self._url(path, query),
                headers=self._headers(_JSON),
                timeout=Timeout(connect=5, read=quiet_s),
                preload_content=False,
                retries=False,
            )
        except HTTPError as error:
            raise UnavailableError(f"{self.shown}: cannot be reached: {error}") from error
        try:
            if answer.status >= 300:
                raise _error(answer.status, answer.data, f"GET {path}", self.shown)
            yield answer
        finally:
            answer.close()


def _nothing() -> None:
    """Keep nothing back."""


class Lines:
    """The lines of a text, as they come."""

    def __init__(self, answer: Any, shown: str) -> None:
        self._answer = answer
        self._shown = shown

    def __iter__(self) -> Iterator[str]:
        """Yield each line until the cluster ends the stream."""
        for line in self.raw():
            yield line.removesuffix(b"\n").decode(errors="replace")

    def raw(self) -> Iterator[bytes]:
        """Yield each line with its end, which the last one may lack."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in self._answer.stream(2**16, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line + b"\n" for line in lines)
        except (HTTPError, OSError, AttributeError, ValueError) as error:  # closed by another thread, or broken off
            raise UnavailableError(f"{self._shown}: the stream broke off: {error}") from error
        if rest:
            yield rest

    def close(self) -> None:
        """End the reader's loop, from any thread."""
        shutdown = getattr(self._answer, "shutdown", None)  # of urllib3 2.3 and newer: it wakes a reader that waits
        with suppress(ValueError, OSError):  # the stream ended in this moment
            (shutdown or self._answer.close)()


class Stream:
    """The changes of a watch."""

    def __init__(self, answer: Any, shown: str) -> None:
        self._lines = Lines(answer, shown)
        self._shown = shown

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        """Yield each change's type and object until the cluster ends the stream."""
        yield from (self._event(line) for line in self._lines.raw() if line.endswith(b"\n"))

    def close(self) -> None:
        """End the reader's loop, from any thread."""
        self._lines.close()

    def _event(self, line: bytes) -> tuple[str, Object]:
        try:
            event = from_json(line)
        except ValueError as error:
            raise UnavailableError(f"{self._shown}: the watch broke off: {error}") from error
        if event["type"] == "ERROR":
            status = event["object"]
            raise _error(int(status.get("code", 500)), json.dumps(status).encode(), "WATCH", self._shown)
        return event["type"], event["object"]


def part(item: Object, *names: str) -> Object:
    """Return the part of an object at a path of fields; an empty one where there is none."""
    for name in names:
        item = item.get(name) or {}
    return item


def listed(item: Object, name: str) -> list[Any]:
    """Return a list in an object; an empty one where there is none."""
    return item.get(name) or []


def whole(quantity: str | int) -> int:
    """Read a Kubernetes quantity ("8", "100k", "1Ti") as a whole number, rounded down."""
    text = str(quantity)
    if text.isdigit():
        return int(text)
    with needs_extras():
        from kubernetes.utils import quantity as quantities
    module: Any = quantities
    return int(module.parse_quantity(text))


def writing(manager: str = EXECUTOR, *, dry_run: bool) -> dict[str, str]:
    """Return the query of a write: who it is from, and whether the API server is only to check it."""
    return {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})}


def connect(context: str = "", *, kubeconfig: str = "") -> Api:
    """Connect to the cluster of a kubeconfig's context (default: the current one), or to that of this pod."""
    if not kubeconfig and not context and in_pod():
        return Api(pool_of(CONNECTIONS), address(), Login(), shown="cluster of this pod")
    with needs_extras():
        from kubernetes import client, config
    loads: Any = config
    configuration: Any = client.Configuration()
    shown = f"cluster {context or 'of the current context'}"
    try:
        file = kubeconfig or os.environ.get("KUBECONFIG")  # the client reads this variable only when it is imported
        loads.load_kube_config(file or None, context or None, configuration)
    except (loads.ConfigException, OSError) as error:
        given = context or kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        remedy = f"cannot be used ({error}): set KUBECONFIG to a file, or name one of its contexts"
        raise InputError("kubeconfig", given, remedy) from None
    configuration.connection_pool_maxsize = CONNECTIONS
    pool = client.ApiClient(configuration).rest_client.pool_manager
    return Api(pool, configuration.host.rstrip("/"), lambda: _auth(configuration), shown=shown)


def _auth(configuration: Any) -> dict[str, str]:
    """Return the headers that log in; the official client's hook renews an expired token."""
    settings = configuration.auth_settings().values()
    return {setting["key"]: setting["value"] for setting in settings if setting.get("value")}


def _error(status: int, answer: bytes, what: str, shown: str) -> GangplanError:
    """Return the error that an answer means."""
    message = _message(answer)
    if status in _MEANING:
        return _MEANING[status](f"{shown}: {message}")
    if status in (400, 422) or (status == 403 and message.startswith(_HOOK)):
        return RejectedError(f"{shown}: {what} was refused: {message}")
    if status in (401, 403):
        return ForbiddenError(f"{shown}: {what} is not allowed: {message} (see `gangplan kube doctor`)")
    return UnavailableError(f"{shown}: {what} failed ({status}): {message}")


_MEANING: dict[int, type[GangplanError]] = {404: NotFoundError, 409: ConflictError, 410: GoneError}


def _message(answer: bytes) -> str:
    """Return the message of an answer in one line."""
    try:
        body: Object | str = from_json(answer)
    except ValueError:
        body = answer.decode(errors="replace")
    text = body.get("message", "") if isinstance(body, dict) else body
    return " ".join(str(text).split())[:500]
