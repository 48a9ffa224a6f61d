"""Inputs as the world mangles them: tables rendered in many ways, bytes that were damaged, JSON with wrong parts."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from random import Random, SystemRandom
from types import FrameType
from typing import Any, TypeVar

import pytest
from tests.effort import LONG, effort

from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.sources import load
from gangplan.telemetry.values import Telemetry
from gangplan.testing import NOW

COLUMNS = ("job_id", "tenant", "workload_class", "accelerator", "gpus", "submitted_at", "started_at", "ended_at")
LONGEST_S = 10

TRIED = Counter[str]()
"""How many inputs each test has tried; the summary of a run in one process says them."""

T = TypeVar("T")
Job = tuple[str, str, str, str, float, datetime, datetime, datetime]
"""A job that has ended, in the order of `COLUMNS`."""


def tries(short: int, long: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a test with so many seeds: the same in each short run, others in a long one; a failure names its seed."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def each(**fixtures: object) -> None:
            first = SystemRandom().randrange(2**32) if LONG else 0
            for seed in range(first, first + effort(short, long)):
                TRIED[test.__name__] += 1
                try:
                    test(seed=seed, **fixtures)
                except BaseException as error:
                    error.add_note(f"seed {seed}")
                    raise

        parameters = [one for name, one in signature(test).parameters.items() if name != "seed"]
        each.__signature__ = signature(test).replace(parameters=parameters)  # type: ignore[attr-defined]
        return pytest.mark.searches(each)

    return decorate


@contextmanager
def limited() -> Generator[None]:
    """Fail where the block hangs."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still reading after {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(read: Callable[[], T]) -> T | None:
    """Return what was read, or none where the fault was named: field, value and remedy, in one line."""
    try:
        with limited():
            return read()
    except GangplanError as error:
        fault = error
    assert isinstance(fault, InputError | UnavailableError), repr(fault)
    assert str(fault).strip()
    assert "\n" not in str(fault), str(fault)
    assert not isinstance(fault, InputError) or (fault.field and fault.remedy), repr(fault)
    return None


def loaded(source: str, reading: Reading | None = None) -> Telemetry | None:
    """Return the telemetry of a source, or none where its fault was named."""
    return tried(lambda: load(source, seed=7, clock=lambda: NOW, progress=no_progress, reading=reading))


def draw_jobs(random: Random) -> list[Job]:
    """Draw jobs that have ended, in the last days before now."""
    jobs: list[Job] = []
    for number in range(random.randint(1, 8)):
        submitted = NOW - timedelta(minutes=random.randint(600, 6000))
        started = submitted + timedelta(minutes=random.randint(0, 200))
        ended = started + timedelta(minutes=random.randint(1, 300))
        tenant, accelerator = random.choice(["search", "vision", "a.b_c-1"]), random.choice(["h100", "a100", "any"])
        kind, gpus = random.choice(["latency", "throughput", "cost"]), random.choice([1.0, 2.0, 8.0, 0.5, 64.0])
        jobs.append((f"job-{number}", tenant, kind, accelerator, gpus, submitted, started, ended))
    return jobs


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How a table is written: none of it changes what it means, but a reader may refuse it by name."""

    moment: Callable[[datetime], str]
    number: Callable[[float], str]
    delimiter: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"
    quoting: int = csv.QUOTE_MINIMAL
    separator_line: bool = False
    blank_lines: bool = False
    trailing: bool = False
    extra: bool = False
    header: Callable[[str], str] = str
    ending: str = ".csv"


def draw_rendering(random: Random) -> Rendering:
    """Draw a way to write a table; most are plain in most respects."""

    def rarely(usual: Any, *others: Any) -> Any:
        return random.choice(others) if random.random() < 0.25 else usual

    return Rendering(
        moment=rarely(_zulu, _offset_utc, _with_space, _fraction, _offset_berlin, _local, _epoch, _day_first),
        number=rarely(_plain, _decimals, _exponent, _decimal_comma, _padded),
        delimiter=rarely(",", ";", "\t", "|"),
        newline=rarely("\n", "\r\n", "\r"),
        encoding=rarely("utf-8", "utf-8-sig", "utf-16", "latin-1"),
        quoting=rarely(csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC),
        separator_line=rarely(False, True),
        blank_lines=rarely(False, True),
        trailing=rarely(False, True),
        extra=rarely(False, True),
        header=rarely(str, str.upper, lambda name: f" {name} "),
        ending=rarely(".csv", ".csv.gz", ".tsv", ".txt"),
    )


def draw_faults(random: Random, jobs: list[Job], how: Rendering) -> tuple[list[list[str]], set[str]]:
    """Return jobs as rows of text, some with a fault, and the ids of those."""
    rows = [[*job[:4], how.number(job[4]), *map(how.moment, job[5:])] for job in jobs]
    wrong: set[str] = set()
    for row in rows:
        if random.random() < 0.15:
            wrong.add(row[0])
            column = random.randrange(1, len(COLUMNS))
            row[column] = random.choice(_BAD[COLUMNS[column]])
    return rows, wrong


def write_table(path: Path, rows: list[list[str]], how: Rendering) -> None:
    """Write rows as a text table."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=how.delimiter, lineterminator=how.newline, quoting=how.quoting)
    if how.separator_line:
        text.write(f"sep={how.delimiter}{how.newline}")
    more = (["note"] if how.extra else []) + ([""] if how.trailing else [])
    writer.writerow([*map(how.header, COLUMNS), *more])
    for row in rows:
        if how.blank_lines:
            text.write(how.newline)
        writer.writerow([*row, *(["x, y"] if how.extra else []), *([""] if how.trailing else [])])
    raw = text.getvalue().encode(how.encoding)
    path.write_bytes(gzip.compress(raw) if path.name.endswith(".gz") else raw)


def damaged(random: Random, raw: bytes) -> bytes:
    """Return bytes with a few of them changed, lost, repeated, or with others put between."""
    bad = bytearray(raw)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(bad) + 1)
        some = random.randint(1, 40)
        match random.randrange(6):
            case 0:
                bad[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del bad[at : at + some]
            case 2:
                bad[at:at] = random.randbytes(some)
            case 3:
                bad[at:at] = bad[at : at + some]
            case 4:
                bad[at:at] = random.choice([b'"', b"\x00", b"\n", b",", b"\xff\xfe", b"9" * 400, b":", b";", b"{"])
            case _:
                del bad[at:]
    return bytes(bad)


def mutated(random: Random, tree: Any) -> Any:
    """Return a copy of JSON values in which a few parts are others, are missing, or stand twice."""
    copy = json.loads(json.dumps(tree))
    for _ in range(random.randint(1, 4)):
        places = [place for place in _places(copy) if place[0]]
        parent, key = random.choice(places)
        match random.randrange(4):
            case 0 | 1:
                parent[key] = deepcopy(random.choice(_ODD))
            case 2:
                del parent[key]
            case _:
                if isinstance(parent, list):
                    parent.append(deepcopy(parent[key]))
                else:
                    parent[f"{key}2"] = deepcopy(parent[key])
        if not any(place[0] for place in _places(copy)):
            break
    return copy


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return each part of a JSON tree as the list or object that holds it, and its key."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        keys = range(len(holder)) if isinstance(holder, list) else list(holder) if isinstance(holder, dict) else ()
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys]
    return found


@dataclass
class Answers:
    """A server of JSON: what it answers to a path."""

    url: str = ""
    reply: Callable[[str], tuple[int, bytes]] = lambda path: (404, b"")
    asked: list[str] = field(default_factory=list[str])


@contextmanager
def answering() -> Generator[Answers]:
    """Serve on a free port of this machine."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        """One answer."""

        def do_GET(self) -> None:
            """Answer."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answers.asked.append(self.path)
            status, body = answers.reply(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    answers.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()


def write_kubeconfig(file: Path, url: str) -> None:
    """Write how to reach a cluster at an address."""
    cluster = {"clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}]}
    context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **cluster, **context}))


def listed(path: str) -> Any:
    """Return a cluster's list of the objects of a path: a pod of 8 GPUs that runs, its node, a workload."""
    marks = {"creationTimestamp": "2026-03-01T00:00:00Z", "labels": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}}
    limits = {"limits": {"nvidia.com/gpu": "8", "cpu": "4"}, "requests": {"nvidia.com/gpu": "8"}}
    pod = {
        "metadata": {"name": "p", "namespace": "vision", "uid": "u1", **marks},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "resources": limits}], "initContainers": []},
        "status": {"phase": "Running", "startTime": "2026-03-01T00:00:05Z", "containerStatuses": []},
    }
    node = {
        "metadata": {"name": "n1", **marks},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    workload = {
        "metadata": {"name": "w", "namespace": "vision", "uid": "u2", **marks},
        "spec": {"podSets": [{"name": "main", "count": 2, "template": {"spec": pod["spec"]}}], "active": True},
        "status": {"conditions": []},
    }
    items = {"pods": [pod], "nodes": [node], "workloads": [workload]}.get(path.partition("?")[0].rpartition("/")[2], [])
    return {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}


def _zulu(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _offset_utc(moment: datetime) -> str:
    return moment.isoformat()


def _with_space(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}+00:00"


def _fraction(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000000Z"


def _offset_berlin(moment: datetime) -> str:
    return f"{moment + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}+01:00"


def _local(moment: datetime) -> str:
    return f"{moment + timedelta(hours=1):%Y-%m-%d %H:%M:%S}"


def _epoch(moment: datetime) -> str:
    return str(int(moment.timestamp()))


def _day_first(moment: datetime) -> str:
    return f"{moment:%d.%m.%Y %H:%M}"


def _plain(number: float) -> str:
    return f"{number:g}"


def _decimals(number: float) -> str:
    return f"{number:.2f}"


def _exponent(number: float) -> str:
    return f"{number:e}"


def _decimal_comma(number: float) -> str:
    return f"{number:.1f}".replace(".", ",")


def _padded(number: float) -> str:
    return f"  {number:g} "


BAD_MOMENTS = [
    "tomorrow",
    "2026-02-31T00:00:00Z",
    "1999-01-01T00:00:00Z",
    "2199-01-01T00:00:00Z",
    "9" * 30,
    "0001-01-01Z",
]
_BAD: dict[str, list[str]] = {
    "tenant": ["", "two words", "x" * 300, "\u00e4", "../up"],
    "workload_class": ["", "fast", "LATENCY!"],
    "accelerator": ["", "two words", "h100/a100"],
    "gpus": ["", "0", "-1", "nan", "inf", "eight", "1e9", "0x8", "8 GPUs"],
    "submitted_at": ["", *BAD_MOMENTS],
    "started_at": BAD_MOMENTS,
    "ended_at": BAD_MOMENTS,
}
_ODD: list[Any] = [
    *(None, True, 0, -1, 10**30, 1.5, "", "NaN", "+Inf", "x", "1e400", [], {}, [None], {"": None}, [[]]),
    *("2026-13-01T00:00:00Z", "0001-01-01T00:00:00Z", "9" * 400, "\u0000", "8k", "-3Ti"),
]
