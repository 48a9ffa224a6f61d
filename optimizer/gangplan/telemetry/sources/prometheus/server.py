"""The server: its address, how one logs in, and range queries that are made smaller where it refuses large ones."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import httpx
import polars as pl
from polars.exceptions import PolarsError
from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError, UnavailableError
from gangplan.progress import Progress, no_progress
from gangplan.tables import UTC_TIME
from gangplan.telemetry.sources.prometheus.queries import QUERIES, Query
from gangplan.telemetry.values import BadRow
from gangplan.urls import CLEAR, shown, unambiguous

POINTS = 7 * 24
"""How many points a range query asks for at first: a week of hours."""

DEFAULT_DAYS = 30
TIMEOUT_S = 60.0
_FORM = "give prometheus+http://host:9090"
_LOGIN = (
    "refused us: give prometheus+http://user:password@host:9090, or a bearer token by GANGPLAN_PROMETHEUS_TOKEN (or"
    " _TOKEN_FILE), and where it wants a tenant GANGPLAN_PROMETHEUS_HEADERS='X-Scope-OrgID: <tenant>'"
)
_TOO_MUCH = re.compile(r"too many|too large|exceed|timed out|timeout|limit", re.IGNORECASE)
_ANOTHER_WAY = (403, 404, 405, 501)
"""What a proxy that lets only GET through answers to a POST."""


class _Series(TypedDict):
    """A series as Prometheus' API gives one; its samples lie in the years 2000 to 2100."""

    metric: dict[str, str]
    values: list[tuple[Annotated[float, Field(gt=946_684_800, lt=4_102_444_800)], str]]


_RESULT = TypeAdapter(list[_Series])


class Access(BaseSettings):
    """How one logs in, from the environment: GANGPLAN_PROMETHEUS_TOKEN, _TOKEN_FILE, _HEADERS and _CA."""

    model_config = SettingsConfigDict(env_prefix="GANGPLAN_PROMETHEUS_", frozen=True)

    token: SecretStr = SecretStr("")
    token_file: Path | None = None
    headers: SecretStr = SecretStr("")  # name: value, ...
    ca: Path | None = None

    def sent(self) -> dict[str, str]:
        """Return the headers to send; no value of theirs is ever shown."""
        headers: dict[str, str] = {}
        for number, pair in enumerate(filter(None, re.split(r"[,\n]", self.headers.get_secret_value())), 1):
            name, colon, value = (part.strip() for part in pair.partition(":"))
            if not colon or not re.fullmatch(r"[\w-]+", name) or not value.isascii():
                raise InputError("GANGPLAN_PROMETHEUS_HEADERS", f"header {number}", "must be `name: value`")
            headers[name] = value
        token = self.token.get_secret_value() or _text(self.token_file, "GANGPLAN_PROMETHEUS_TOKEN_FILE")
        if token and not re.fullmatch(r"[!-~]+", token.strip()):
            raise InputError("GANGPLAN_PROMETHEUS_TOKEN", "(a secret)", "is no token: it has blanks or odd characters")
        return headers | ({"Authorization": f"Bearer {token.strip()}"} if token else {})

    def trusted(self) -> ssl.SSLContext:
        """Return the certificates that are trusted."""
        _text(self.ca, "GANGPLAN_PROMETHEUS_CA")
        try:
            return ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise InputError(
                "GANGPLAN_PROMETHEUS_CA", self.ca, f"has no certificates ({error}): give a PEM file"
            ) from None


def _text(file: Path | None, variable: str) -> str:
    """Return the text of a file that a variable names; none without one."""
    try:
        return file.read_text() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(variable, file, f"cannot be read ({error}): give a readable file") from None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of a query (time, its labels, value), and those that were not finite numbers."""

    frame: pl.DataFrame
    rejected: tuple[BadRow, ...]


@dataclass(frozen=True, kw_only=True)
class Server:
    """The address of Prometheus, and for how many days back to ask; `shown` has no password in it."""

    url: str
    days: int

    @property
    def shown(self) -> str:
        """The address as it may be logged."""
        return shown(self.url)

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password apart from the address, because httpx logs the address of each request."""
        parts = urlsplit(self.url)
        return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


def parse_server(source: str) -> Server:
    """Read prometheus+http(s)://[user:password@]host:port[/path][?days=N]."""
    if not unambiguous(source):
        raise InputError("source", source, CLEAR)
    try:
        httpx.URL(source.removeprefix("prometheus+"))
        parts = urlsplit(source.removeprefix("prometheus+"))
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError("source", "prometheus+...", f"is no address ({error}): {_FORM}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("source", f"prometheus+{parts.scheme}:", f"is no address of Prometheus: {_FORM}")
    options = parse_qs(parts.query, keep_blank_values=True)
    unknown = ", ".join(sorted(set(options) - {"days"}))
    if unknown:
        raise InputError("source", unknown, "is no option of Prometheus: only ?days=30 is known")
    days = options.get("days", [str(DEFAULT_DAYS)])[-1]
    if not days.isdecimal() or not 1 <= int(days) <= 1096:
        raise InputError("days", days, "must be a whole number from 1 to 1096")
    return Server(url=urlunsplit(parts._replace(query="", fragment="")).rstrip("/"), days=int(days))


class Session:
    """A connection to the server. It remembers which calls the server lets through, and how large they may be."""

    def __init__(self, server: Server, access: Access | None = None) -> None:
        access = access or Access()
        headers = access.sent()
        if "Authorization" in headers and server.auth is not None:
            raise InputError("source", server.shown, "has a password, and there is a bearer token: give one of the two")
        self._client = httpx.Client(timeout=TIMEOUT_S, headers=headers, auth=server.auth, verify=access.trusted())
        self._server = server
        self._verb = "POST"
        self.points = POINTS
        self.warned = 0
        self.warning = ""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, now: datetime, progress: Progress = no_progress) -> dict[str, Samples]:
        """Run every query over the last days up to the present hour; a sample's time is the start of its hour."""
        end, days = floor_hour(now), timedelta(days=self._server.days)
        answers: dict[str, Samples] = {}
        for done, query in enumerate(QUERIES):
            progress(done, len(QUERIES), f"asking Prometheus for {query.name}")
            count = days // query.every
            times = [end - query.every * back for back in reversed(range(count))]
            series = self.ask(query.name, query.promql, times, query.every)
            try:
                answers[query.name] = _samples(query, series)
            except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, PolarsError) as error:
                raise self._foreign(200) from error
        return answers

    def matches(self, selector: str, now: datetime) -> bool:
        """Return whether the server had any series of a selector in the last days."""
        times = [floor_hour(now) - HOUR * 6 * back for back in reversed(range(4 * self._server.days))]
        return bool(self.ask("selector", f"count({selector})", times, HOUR * 6))

    def ask(self, name: str, promql: str, times: list[datetime], every: timedelta) -> list[dict[str, Any]]:
        """Return the series of a range query at these times; a range that is too large is asked for in parts."""
        series: list[dict[str, Any]] = []
        while times:
            part = times[: self.points]
            form = {
                "query": promql,
                "start": str(part[0].timestamp()),
                "end": str(part[-1].timestamp()),
                "step": f"{every.total_seconds():.0f}",
            }
            response = self._send(form)
            if len(part) > 1 and _is_too_much(response):
                self.points = len(part) // 2
                continue
            series += self._series(response, name)
            times = times[len(part) :]
        return series

    def _send(self, form: dict[str, str]) -> httpx.Response:
        """Send a query; by GET, where POST does not get through."""
        response = self._call(self._verb, form)
        if self._verb == "POST" and response.status_code in _ANOTHER_WAY:
            other = self._call("GET", form)
            if other.status_code not in _ANOTHER_WAY:
                self._verb, response = "GET", other
        return response

    def _call(self, verb: str, form: dict[str, str]) -> httpx.Response:
        address = self._server.shown
        url = f"{address}/api/v1/query_range"
        try:
            return self._client.get(url, params=form) if verb == "GET" else self._client.post(url, data=form)
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                remedy = f"has a certificate that is not trusted ({error}): give its CA by GANGPLAN_PROMETHEUS_CA"
                raise InputError("source", address, remedy) from None
            raise UnavailableError(f"prometheus: {address} cannot be reached: {error}") from error

    def _series(self, response: httpx.Response, name: str) -> list[dict[str, Any]]:
        """Return the series of a range query's answer, or raise what the server complains of, with the remedy."""
        address, status = self._server.shown, response.status_code
        if status in (401, 403):
            raise InputError("source", address, _LOGIN)
        if response.is_redirect:
            there = str(response.headers.get("Location", "another address")).partition("?")[0]
            raise InputError("source", address, f"sends us to {there}: log in there, or give that address")
        body = _body(response)
        data: dict[str, Any] | None = body.get("data")
        if body.get("status") == "success" and isinstance(data, dict) and data.get("resultType") == "matrix":
            if body.get("warnings"):
                self.warned, self.warning = self.warned + 1, str(body["warnings"])[:120]
            return self._checked(data.get("result"), status)
        if status >= 500 or status == 429:
            raise UnavailableError(f"prometheus: {address} answered {status}: try again{_complaint(body)}")
        if "errorType" not in body:
            raise self._foreign(status)
        remedy = "raise its limits (--query.max-samples)" if _is_too_much(response) else "check its version"
        raise InputError("source", address, f"refused the query {name}{_complaint(body)}: {remedy}")

    def _checked(self, result: object, status: int) -> list[dict[str, Any]]:
        """Return the series of an answer, if each has labels, and pairs of a time and a value in text."""
        try:
            return [dict(series) for series in _RESULT.validate_python(result)]
        except ValidationError:
            raise self._foreign(status) from None

    def _foreign(self, status: int) -> InputError:
        remedy = f"does not speak Prometheus' API ({status}): check host, port, path"
        return InputError("source", self._server.shown, remedy)


def _body(response: httpx.Response) -> dict[str, Any]:
    """Return an answer's JSON; empty where it is no object of Prometheus' API."""
    try:
        body: dict[str, Any] | list[Any] = response.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _complaint(body: dict[str, Any]) -> str:
    return f" ({body['errorType']}: {body.get('error', '')})" if "errorType" in body else ""


def _is_too_much(response: httpx.Response) -> bool:
    """Whether the server would answer a smaller query."""
    return response.status_code in (400, 413, 422, 503, 504) and bool(_TOO_MUCH.search(response.text[:2000]))


def _samples(query: Query, series: list[dict[str, Any]]) -> Samples:
    """Return samples as a table; the time of each is the start of the hour that it covers."""
    rows = [
        (
            datetime.fromtimestamp(float(time), UTC) - HOUR,
            *(item["metric"].get(label, "") for label in query.labels),
            value,
        )
        for item in series
        for time, value in item["values"]
    ]
    schema = {"time": UTC_TIME, **dict.fromkeys(query.labels, pl.String()), "text": pl.String()}
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("text").cast(pl.Float64, strict=False).alias("value")
    )
    usable = pl.col("value").is_finite().fill_null(value=False) & (pl.col("value") >= 0)
    wrong = table.with_row_index("line", 1).filter(~usable)
    rejected = tuple(
        BadRow(
            place=query.name,
            line=row["line"],
            field=" ".join(f"{label}={row[label]}" for label in query.labels),
            value=row["text"],
            remedy="is no finite number of 0 or more: the sample is left out",
        )
        for row in wrong.iter_rows(named=True)
    )
    return Samples(frame=table.filter(usable).drop("text"), rejected=rejected)
