"""Ways into a ledger's database, and what it says when it cannot be used, in our words."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from gangplan.errors import InputError, UnavailableError
from gangplan.reserve.stores.wakes import Wake


@dataclass(frozen=True, kw_only=True)
class Database:
    """One database: `writer` begins transactions that hold the write lock, `reader` ones that see one moment.

    `poster` begins those that put letters into the inbox: they need not outlive the machine's power.
    """

    writer: Engine
    reader: Engine
    poster: Engine
    wake: Wake
    shown: str  # the URL without its password
    notifies: bool = False  # the server carries word to those who listen
    patience: float = 30.0  # seconds that a command waits for its answer

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Begin a transaction that holds the write lock; it is durable when it ends."""
        with self._reached(), self.writer.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Begin a transaction that sees one moment."""
        with self._reached(), self.reader.begin() as connection:
            yield connection

    @contextmanager
    def posting(self) -> Generator[Connection]:
        """Begin a transaction on the inbox."""
        with self._reached(), self.poster.begin() as connection:
            yield connection

    def tell(self, connection: Connection, channel: str) -> None:
        """Let those who listen know once the transaction is committed."""
        if self.notifies:
            connection.execute(text(f"NOTIFY {channel}"))

    def dispose(self) -> None:
        """Let go of all connections."""
        for engine in (self.writer, self.reader, self.poster):
            engine.dispose()

    @contextmanager
    def _reached(self) -> Generator[None]:
        """Say in our words that the database cannot be used."""
        try:
            yield
        except OperationalError as error:
            why = _one_line(error)
            raise UnavailableError(f"ledger: {self.shown} cannot be reached ({why}): try again") from error
        except DatabaseError as error:
            raise InputError("ledger", self.shown, f"is no gangplan ledger ({_one_line(error)})") from error
        except (SQLAlchemyError, OSError) as error:
            raise UnavailableError(f"ledger: {self.shown} cannot be used ({error}): try again") from error


def _one_line(error: DatabaseError) -> str:
    """Return what the database said, on one line."""
    return " ".join(str(error.orig).split())
