"""Commands as text, as they travel to the leader, and a batch of them as one change of a book."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from gangplan.clock import or_none_at, or_none_us, span_us
from gangplan.errors import GangplanError, InputError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Entry, admit, expire, told
from gangplan.reserve.commands.command import Command, Lookup, Result
from gangplan.reserve.commands.gang import Cancel, Release, Renew, Resize, Submit
from gangplan.reserve.commands.nodes import MarkNode, settle_nodes
from gangplan.reserve.commands.operating import Publish, SetPolicy, Tick
from gangplan.types import NodeState


def run_batch(book: Book, lookup: Lookup, batch: Sequence[Command], now: int) -> list[Result]:
    """Run commands in their order between one expiry and one admission."""
    settle_nodes(book, now)
    expire(book, now)
    done = [_run(book, lookup, command, now) for command in batch]
    admit(book, now)
    return [told(book, entry, now) if isinstance(entry, Entry) else entry for entry in done]


def _run(book: Book, lookup: Lookup, command: Command, now: int) -> Entry | GangplanError | None:
    """Run one command; its refusal is its own and leaves the others be."""
    try:
        return command.run(book, lookup, now)
    except GangplanError as refusal:
        return refusal


# ---------------------------------------------------------------- as text

COMMANDS: dict[str, type[Command]] = {
    kind.name: kind for kind in (Submit, Renew, Release, Cancel, Resize, Tick, Publish, SetPolicy, MarkNode)
}
"""All commands by name."""

_CODECS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "request": ("body", codec.request_text, codec.request_from_text),
    "calendar": ("body", codec.calendar_text, codec.calendar_from),
    "policy": ("body", codec.policy_text, codec.policy_from),
    "state": ("state", str, NodeState),
    "ttl": (
        "ttl",
        lambda ttl: None if ttl is None else span_us(ttl),
        lambda us: None if us is None else timedelta(microseconds=us),
    ),
    "begin": ("begin", or_none_us, or_none_at),
    "back": ("back", or_none_us, or_none_at),
    "pods": ("pods", list, tuple),
}
"""The fields that are not plain JSON: their names in the text, how they are written and how they are read."""


@dataclass(frozen=True)
class Unreadable(Command):
    """A command's text that this process cannot read: whoever sent it is told why."""

    name: str  # pyright: ignore[reportIncompatibleVariableOverride] (each has its own)
    refusal: GangplanError

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""
        raise self.refusal


def command_text(command: Command) -> str:
    """Return a command as JSON: its name, the reservation that it is about, and its other fields."""
    arguments: dict[str, Any] = {}
    for field in _fields(type(command)):
        key, write, _ = _CODECS.get(field, (field, _same, _same))
        value = getattr(command, field)
        if field != "attempt" or value != getattr(type(command), field):  # leaders of before know of none
            arguments[key] = write(value)
    arguments.pop("id", None)
    return json.dumps([command.name, command.subject, arguments])


def command_from(text: str) -> Command:
    """Read a command back; one that cannot be read is a command too, which is refused when it is run."""
    name, id, arguments = json.loads(text)
    kind = COMMANDS.get(name)
    if kind is None:
        return Unreadable(name, InputError("command", name, "is not known to this ledger's leader: upgrade it"))
    given: dict[str, Any] = {}
    try:
        for field in _fields(kind):
            key, _, read = _CODECS.get(field, (field, _same, _same))
            if field == "id":
                given[field] = id
            elif key in arguments:
                given[field] = read(arguments[key])
        return kind(**given)
    except GangplanError as refusal:
        return Unreadable(name, refusal)
    except Exception as error:  # noqa: BLE001 (whoever sent it gets it)
        return Unreadable(name, GangplanError(f"ledger: {name} failed in its leader: {error!r}"))


def _fields(kind: type[Command]) -> list[str]:
    return [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType] (each is a dataclass)


def _same(value: Any) -> Any:
    return value
