"""What all commands share: the given home folder, its settings and its stores, and how results are printed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gangplan.config import Settings, load_settings

if TYPE_CHECKING:
    from gangplan.reserve import OperableLedger
    from gangplan.tracking import Store

console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]

_given: dict[str, Any] = {}


def use(*, home: Path | None, now: str | None) -> None:
    """Let the commands work in this folder and as of this moment; None means what the environment names."""
    _given.update(home=home, now=now)


def settings_here(**given: Any) -> Settings:
    """Return the settings of the given home folder and moment, and what else is given."""
    return load_settings(**_given, **given)


def open_ledger_here() -> OperableLedger:
    """Open the ledger of the settings."""
    from gangplan.reserve import open_ledger

    settings = settings_here()
    return open_ledger(settings.ledger_url, clock=settings.clock)


def open_store_here(*, create: bool = False) -> Store:
    """Open the MLflow store of the settings; MLflow takes seconds to import, so only the commands that need it do."""
    from gangplan.tracking import open_store

    return open_store(settings_here(), create=create)


def emit(as_json: bool, summary: Any, words: Callable[[Any], object]) -> None:
    """Print a result as JSON, or for a person."""
    if as_json:
        print(json.dumps(summary, indent=2, default=str))
    else:
        console.print(words(summary))


@contextmanager
def stopped() -> Generator[Event]:
    """Yield an event that is set when a signal asks this process to stop; further signals are ignored.

    `timeout` and process managers signal a process and then its group, so a second signal comes while it is ending.
    Python removes its handlers before the interpreter ends, so both signals are ignored from the first one on.
    """
    stop = Event()

    def asked(number: int, frame: object) -> None:
        stop.set()
        for handled in before:
            signal.signal(handled, signal.SIG_IGN)

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        if not stop.is_set():
            for number, handler in before.items():
                signal.signal(number, handler)
