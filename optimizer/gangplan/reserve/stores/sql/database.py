"""The connections to a ledger's database, and its errors as errors of ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from gangplan.errors import InputError, UnavailableError
from gangplan.reserve.stores.sql.connections import IdleConnections
from gangplan.reserve.stores.wakeups import Wakeup


@dataclass(frozen=True, kw_only=True)
class Database:
    """One database with three kinds of transactions.

    Those of `writer` hold the write lock and are durable, those of `reader` see one moment. Those of `poster` put
    commands into the queue and need not survive a power failure: whoever sent a command waits for its result.
    """

    writer: Engine
    reader: Engine
    poster: Engine
    wakeup: Wakeup
    shown: str  # the URL without its password
    idle: IdleConnections | None = None
    notifies: bool = False  # the server sends notifications to those who listen
    patience: float = 30.0  # seconds that a command waits for its answer

    def writing(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that holds the write lock; it is durable when it ends."""
        return self._begin(self.writer)

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that sees one moment."""
        return self._begin(self.reader)

    def posting(self) -> AbstractContextManager[Connection]:
        """Begin a transaction on the inbox."""
        return self._begin(self.poster)

    def notify(self, connection: Connection, channel: str) -> None:
        """Notify those who listen, once the transaction is committed."""
        if self.notifies:
            connection.execute(text(f"NOTIFY {channel}"))

    def dispose(self) -> None:
        """Close all connections."""
        if self.idle is not None:
            self.idle.close()
        for engine in (self.writer, self.reader, self.poster):
            engine.dispose()

    @contextmanager
    def _begin(self, engine: Engine) -> Generator[Connection]:
        """Begin a transaction; an error of the database in it becomes one of ours."""
        try:
            with engine.begin() as connection:
                yield connection
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
