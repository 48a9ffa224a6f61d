"""The inbox and the answers: commands that travel to the leader, and what it says to them.

A command is run exactly once: the transaction that runs it takes it out of the inbox and writes its answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, exists, insert, literal, select

from gangplan import errors
from gangplan.errors import GangplanError, InputError
from gangplan.reserve.commands import Answer, Command
from gangplan.reserve.rows import Row, entry_of
from gangplan.reserve.stores.sql.schema import answers, inbox
from gangplan.types import ReservationId

AT_ONCE = 500
"""So many letters go into one transaction at most."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A command on its way: the call that it is, and who waits for the answer."""

    call: str
    client: str
    command: Command


@dataclass(frozen=True, slots=True)
class Post:
    """What the leader takes out at once, and where it stood."""

    letters: list[Letter] = field(default_factory=list[Letter])
    seqs: list[int] = field(default_factory=list[int])


def post(connection: Connection, letters: Sequence[Letter]) -> None:
    """Put commands into the inbox."""
    rows = [{"call": one.call, "client": one.client, "body": _command_text(one.command)} for one in letters]
    connection.execute(insert(inbox), rows)


def has_post(connection: Connection) -> bool:
    """Tell whether somebody asks something."""
    return bool(connection.execute(select(exists(select(literal(1)).select_from(inbox)))).scalar())


def take(connection: Connection, most: int = AT_ONCE) -> Post:
    """Take the oldest commands out of the inbox."""
    rows = connection.execute(select(inbox).order_by(inbox.c.seq).limit(most)).all()
    if not rows:
        return Post()
    seqs = [row.seq for row in rows]
    connection.execute(delete(inbox).where(inbox.c.seq.in_(seqs)))
    return Post([Letter(row.call, row.client, _command_from(row.body)) for row in rows], seqs)


def withdraw(connection: Connection, call: str) -> bool:
    """Take back a command that nobody has run yet; False when it was run."""
    return connection.execute(delete(inbox).where(inbox.c.call == call)).rowcount > 0


def answer(connection: Connection, change: int, said: Sequence[tuple[Letter, str]]) -> None:
    """Write answers."""
    if said:
        rows = [{"call": to.call, "client": to.client, "change": change, "body": text} for to, text in said]
        connection.execute(insert(answers), rows)


def collect(connection: Connection, client: str, after: int) -> list[tuple[str, Answer]]:
    """Return the answers to a client that were written by changes later than `after`."""
    query = select(answers.c.call, answers.c.body).where(answers.c.client == client, answers.c.change > after)
    return [(row.call, answer_from(row.body)) for row in connection.execute(query)]


def sweep(connection: Connection, upto: int) -> None:
    """Throw away the answers of changes up to one: who has not read them by now is gone."""
    connection.execute(delete(answers).where(answers.c.change <= upto))


# ---------------------------------------------------------------- as text


def _command_text(command: Command) -> str:
    return json.dumps([command.name, command.id, command.args])


def _command_from(text: str) -> Command:
    name, id, args = json.loads(text)
    return Command(name, None if id is None else ReservationId(id), args)


def answer_text(said: Answer, rows: Mapping[ReservationId, Row]) -> str:
    """Return an answer as JSON; `rows` are those of the reservations in answers."""
    if said is None:
        return "null"
    if isinstance(said, InputError):
        return json.dumps({"error": "InputError", "said": [said.field, _plain(said.value), said.remedy]})
    if isinstance(said, GangplanError):
        return json.dumps({"error": type(said).__name__, "said": [str(said)]})
    return json.dumps(rows[said.id])


def answer_from(text: str) -> Answer:
    """Read an answer back."""
    body = json.loads(text)
    if body is None:
        return None
    if "error" in body:
        kind = getattr(errors, body["error"], GangplanError)
        return kind(*body["said"])
    return entry_of(body).reservation()


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
