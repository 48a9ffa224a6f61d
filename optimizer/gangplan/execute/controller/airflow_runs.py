"""Which runs of an Airflow's DAGs have ended, by its REST API (v2, of Airflow 3)."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from gangplan.clock import parse_utc
from gangplan.errors import ForbiddenError, GangplanError, InputError, NotFoundError, UnavailableError

_PATIENCE_S = 10.0
_PAGE = 100
_ACTIVE = ("queued", "running")
_ENDED = ("success", "failed")
_BUSY = ("running", "deferred", "queued", "scheduled", "restarting", "up_for_retry", "up_for_reschedule")
"""States of tasks that may still use slots, or give them back: teardowns run after their run has ended."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a DAG."""

    dag: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended, and when; a run that was deleted has no moment."""

    state: str
    at: datetime | None


class AirflowRuns:
    """What one Airflow says of its runs; the URL has the user who asks: `https://user:password@host`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.username:
            raise InputError("airflow_api", url, "is no address of an Airflow: give it like https://user:password@host")
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._login = {"username": parts.username, "password": parts.password or ""}
        self._token = ""
        self._active: set[Run] = set()
        self._seen: set[Run] = set()

    def look(self) -> None:
        """Read which runs are active now; those that ended are read one by one, when somebody asks."""
        self._active = set(self._read_active())
        self._seen |= self._active

    def end_of(self, run: Run) -> RunEnd | None:
        """Return how a run ended; None while it or one of its tasks goes on, and for one that is another Airflow's.

        A run that is not there counts as deleted only if it was seen before.
        """
        if run in self._active:
            return None
        path = f"/api/v2/dags/{quote(run.dag, safe='')}/dagRuns/{quote(run.id, safe='')}"
        try:
            found = self._get(path)
        except NotFoundError:
            return RunEnd(state="deleted", at=None) if run in self._seen else None
        if found["state"] not in _ENDED or self._get(f"{path}/taskInstances", limit=1, state=_BUSY)["total_entries"]:
            return None
        return RunEnd(state=found["state"], at=parse_utc("end_date", found["end_date"]) if found["end_date"] else None)

    def _read_active(self) -> Iterator[Run]:
        offset = 0
        while True:
            page = self._get("/api/v2/dags/~/dagRuns", state=_ACTIVE, limit=_PAGE, offset=offset, order_by="id")
            yield from (Run(each["dag_id"], each["dag_run_id"]) for each in page["dag_runs"])
            offset += _PAGE
            if offset >= page["total_entries"]:
                return

    def _get(self, path: str, **query: object) -> Json:
        """Ask Airflow; a token that has run out is renewed once."""
        asked = f"{path}?{urlencode(query, doseq=True)}" if query else path
        if self._token:
            try:
                return self._call(asked)
            except ForbiddenError:
                pass
        self._token = self._call("/auth/token", self._login)["access_token"]
        return self._call(asked)

    def _call(self, path: str, body: Json | None = None) -> Json:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if body is None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(f"{self._base}{path}", data, headers)  # noqa: S310 - http(s), see above
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            raise self._error(error, path) from None
        except (OSError, ValueError) as error:
            raise UnavailableError(f"Airflow at {self._base}: cannot be asked: {error}") from None

    def _error(self, error: HTTPError, path: str) -> GangplanError:
        what = f"Airflow at {self._base}: {path.partition('?')[0]} was answered with {error.code}"
        if error.code == 404:
            return NotFoundError(what)
        return ForbiddenError(what) if error.code in (401, 403) else UnavailableError(what)
