"""From a command's name to the function that runs it; and a batch of commands as one change of a book."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from gangplan.errors import GangplanError, InputError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Document, Entry, admit, check_kept, expire
from gangplan.reserve.commands import gang, operator
from gangplan.reserve.commands.gang import Answer, Command, Lookup
from gangplan.types import NodeState, ReservationId, Token

Body = Callable[[Book, Lookup, Command, int], Entry | None]


def run_batch(book: Book, lookup: Lookup, batch: Sequence[Command], now: int) -> list[Answer]:
    """Run commands in their order between one expiry and one admission."""
    expire(book, now)
    done = [_run_one(book, lookup, command, now) for command in batch]
    admit(book, now)
    return [one.reservation() if isinstance(one, Entry) else one for one in done]


def _run_one(book: Book, lookup: Lookup, command: Command, now: int) -> Entry | GangplanError | None:
    """Run one command; its refusal is its own and leaves the others be."""
    try:
        body = BODIES.get(command.name)
        if body is None:
            raise InputError("command", command.name, "is not known to this ledger's leader: upgrade it")
        return body(book, lookup, command, now)
    except GangplanError as refusal:
        return refusal


def _id(command: Command) -> ReservationId:
    """Return the reservation that a command is about."""
    assert command.id is not None  # noqa: S101
    return command.id


def _submit(book: Book, lookup: Lookup, command: Command, now: int) -> Entry:
    text = command.args["body"]
    return gang.submit(book, lookup, command.request or codec.request_from_text(text), text, now)


def _renew(book: Book, lookup: Lookup, command: Command, now: int) -> Entry:
    ttl = command.args["ttl"]
    span = None if ttl is None else timedelta(microseconds=ttl)
    return gang.renew(book, lookup, _id(command), Token(command.args["token"]), span, now)


def _release(book: Book, lookup: Lookup, command: Command, now: int) -> Entry:
    return gang.release(book, lookup, _id(command), Token(command.args["token"]), now)


def _cancel(book: Book, lookup: Lookup, command: Command, now: int) -> Entry:
    return gang.cancel(book, lookup, _id(command), now)


def _resize(book: Book, lookup: Lookup, command: Command, now: int) -> Entry:
    args = command.args
    return operator.resize(book, lookup, _id(command), Token(args["token"]), tuple(args["pods"]), now)


def _publish(book: Book, lookup: Lookup, command: Command, now: int) -> None:
    text = command.args["body"]
    calendar = codec.calendar_from(text)
    if command.args.get("keep"):
        check_kept(book, calendar, now)
    book.publish(calendar)
    book.documents.append(Document("calendar", text))


def _mark_node(book: Book, lookup: Lookup, command: Command, now: int) -> None:
    operator.mark_node(book, lookup, command.args["node"], NodeState(command.args["state"]), now)
    if book.documents and book.documents[-1].kind == "nodes":
        book.documents[-1] = book.documents[-1]._replace(why=command.args["why"])


def _set_policy(book: Book, lookup: Lookup, command: Command, now: int) -> None:
    args = command.args
    operator.set_policy(book, lookup, codec.policy_from(args["body"]), args["by"], args["why"], now)


def _tick(book: Book, lookup: Lookup, command: Command, now: int) -> None:
    """Do nothing but what every command does."""


BODIES: Mapping[str, Body] = {
    "submit": _submit,
    "renew": _renew,
    "release": _release,
    "cancel": _cancel,
    "resize": _resize,
    "publish": _publish,
    "mark_node": _mark_node,
    "set_policy": _set_policy,
    "tick": _tick,
}
"""All commands by name."""
