"""What all commands are: frozen values that say what to change in a book, and change it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar

from gangplan.errors import GangplanError, NotFoundError, StaleTokenError
from gangplan.reserve.admission import Book, Entry
from gangplan.types import Reservation, ReservationId, Token, require_text, require_type

Lookup: TypeAlias = Callable[[ReservationId], Entry | None]
"""Finds a reservation that may be final, and so no longer in the book."""

Result: TypeAlias = Reservation | GangplanError | None
"""What a command came to: the reservation as it stands after admission, the refusal, or nothing to tell."""


T = TypeVar("T")
BookQuery: TypeAlias = Callable[[Book, Lookup], T]
"""Reads something from the present book."""


class Command(ABC):
    """A call that changes a book, as a value, so that another process may run it.

    Its fields are checked when it is made; `run` refuses what the book does not allow before it changes anything.
    """

    name: ClassVar[str]

    @property
    def subject(self) -> ReservationId | None:
        """The reservation that it is about, if it is about one."""
        return None

    @abstractmethod
    def run(self, book: Book, lookup: Lookup, now: int) -> Entry | None:
        """Change the book; return the reservation that the command is about."""


@dataclass(frozen=True)
class ReservationCommand(Command):
    """A command about a reservation that there is."""

    id: ReservationId

    def __post_init__(self) -> None:
        require_text("id", self.id)

    @property
    def subject(self) -> ReservationId:
        """The reservation that it is about."""
        return self.id


@dataclass(frozen=True)
class HolderCommand(ReservationCommand):
    """A command of whoever holds a reservation's present token."""

    token: Token

    def __post_init__(self) -> None:
        super().__post_init__()
        require_type("token", self.token, int, "a whole number")  # not True, nor 1.0, which are equal to one

    def held_entry(self, lookup: Lookup) -> Entry:
        """Return the reservation if the token is its present one."""
        entry = require_entry(lookup(self.id), self.id)
        if entry.token is None or entry.token != self.token:
            present = "it holds no slots" if entry.token is None else "another token holds its slots"
            raise StaleTokenError(f"token: {self.token} is not the one of {self.id}: {present}; nothing was changed")
        return entry


def require_entry(entry: Entry | None, id: ReservationId) -> Entry:
    """Return a reservation, or say that there is none of that id."""
    if entry is None:
        raise NotFoundError(f"id: there is no reservation {id!r}: list them with `gangplan status`")
    return entry
