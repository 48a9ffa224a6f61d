"""The work of the benchmark's tasks: it writes from when to when it was alive, and on which nodes.

Every pool's node has as many GPUs as a pod asks for, so that a node is one slot: two works alive on it at one time
mean that it was given twice. Times are of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

BEAT_S = 0.1


def work(slots: Mapping[str, Any] | None, run: str, seconds: float, check: Callable[[], None] = lambda: None) -> None:
    """Be at work on slots for so long; `check` stops it when they are lost."""
    file = os.open(os.environ["GANGPLAN_BENCH_WORKS"], os.O_APPEND | os.O_WRONLY)
    who = f"{os.getpid()}/{time.monotonic_ns()}"

    def say(what: str, **more: Any) -> None:
        os.write(file, json.dumps({"who": who, "what": what, "at": time.monotonic(), **more}).encode() + b"\n")

    held = slots or {}
    say("begin", run=run, id=held.get("id"), token=held.get("token"), nodes=held.get("nodes", []))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        check()
        say("beat")
        time.sleep(BEAT_S)
    say("end")
