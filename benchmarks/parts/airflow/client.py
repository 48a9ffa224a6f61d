"""What the benchmark asks of Airflow: by its API what a user would do, from its database how everything stands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
from psycopg.rows import class_row

from benchmarks.parts.airflow.stack import Stack, until

STARTED_S = 600
ENDED = ("success", "failed")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task instance, as Airflow's database has it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None
    trigger_id: int | None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names it."""
        return self.dag_id, self.run_id, self.task_id, self.map_index


class Client:
    """A user with all rights, and a look into the database."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._http = httpx.Client(base_url=stack.address, timeout=20)
        self._database = psycopg.connect(stack.metadata.uri, autocommit=True)

    def close(self) -> None:
        """Close both."""
        self._http.close()
        self._database.close()

    def wait_ready(self, dags: Sequence[str] = ()) -> float:
        """Wait until all processes are healthy and these DAGs are known; return how long that took."""
        took = until(STARTED_S, "Airflow's processes", self.healthy, pause=0.5)
        return took + until(STARTED_S, f"the DAGs {', '.join(dags)}", lambda: self._known(dags), pause=0.5)

    def healthy(self) -> bool:
        """Tell whether all of Airflow's processes say that they are well."""
        for name, process in self.stack.running.items():
            assert process.poll() is None, f"{name} ended with {process.returncode}: {self.stack.log_of(name)}"
        try:
            said = self._http.get("/api/v2/monitor/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((said.get(part) or {}).get("status") == "healthy" for part in parts)

    def answers(self) -> bool:
        """Tell whether the api-server answers."""
        try:
            return self._http.get("/api/v2/version").status_code == 200
        except httpx.HTTPError:
            return False

    def _known(self, dags: Sequence[str]) -> bool:
        found = {row[0] for row in self.rows("SELECT dag_id FROM dag WHERE NOT is_stale")}
        errors = self.rows("SELECT stacktrace FROM import_error")
        assert not errors, errors[0][0]
        return set(dags) <= found

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return what Airflow's database answers."""
        return self._database.execute(query, parameters).fetchall()  # pyright: ignore[reportArgumentType]

    def tasks(self, where: str = "true", parameters: Sequence[object] = ()) -> list[Task]:
        """Return task instances."""
        columns = "dag_id, run_id, task_id, map_index, state, try_number, pid, trigger_id"
        query = f"SELECT {columns} FROM task_instance WHERE {where} ORDER BY dag_id, run_id, task_id, map_index"  # noqa: S608
        with self._database.cursor(row_factory=class_row(Task)) as cursor:
            return cursor.execute(query, parameters).fetchall()  # pyright: ignore[reportArgumentType]

    def count(self, dag: str, task: str, state: str) -> int:
        """Return how many instances of a task are in a state."""
        query = "SELECT count(*) FROM task_instance WHERE dag_id = %s AND task_id = %s AND state = %s"
        return int(self.rows(query, (dag, task, state))[0][0])

    def runs(self) -> dict[tuple[str, str], str]:
        """Return the state of every DAG run."""
        return {(dag, run): state for dag, run, state in self.rows("SELECT dag_id, run_id, state FROM dag_run")}

    def trigger(self, dag: str, run: str, **conf: Any) -> None:
        """Start a DAG run."""
        body = {"dag_run_id": run, "logical_date": None, "conf": conf}
        self.ask("POST", f"/api/v2/dags/{dag}/dagRuns", body)

    def mark_task(self, task: Task, state: str) -> None:
        """Mark a task instance."""
        place = f"{_run(task.dag_id, task.run_id)}/taskInstances/{task.task_id}"
        self.ask("PATCH", place if task.map_index < 0 else f"{place}/{task.map_index}", {"new_state": state})

    def mark_run(self, dag: str, run: str, state: str) -> None:
        """Mark a DAG run."""
        self.ask("PATCH", _run(dag, run), {"state": state})

    def delete_run(self, dag: str, run: str) -> None:
        """Delete a DAG run."""
        self.ask("DELETE", _run(dag, run))

    def clear(self, task: Task, *, downstream: bool = True) -> None:
        """Clear a task instance, alone or with what follows it."""
        name: object = task.task_id if task.map_index < 0 else [task.task_id, task.map_index]
        body = {"dry_run": False, "dag_run_id": task.run_id, "task_ids": [name], "only_failed": False}
        self.ask("POST", f"/api/v2/dags/{task.dag_id}/clearTaskInstances", body | {"include_downstream": downstream})

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the API; raises `httpx.HTTPError` where it refuses or does not answer."""
        if "Authorization" not in self._http.headers:
            said = self._http.get("/auth/token").raise_for_status().json()
            self._http.headers["Authorization"] = f"Bearer {said['access_token']}"
        answer = self._http.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def wait_count(self, seconds: float, dag: str, task: str, state: str, count: int) -> float:
        """Wait until so many instances of a task are in a state; return when that was, by the monotonic clock."""
        until(seconds, f"{count} {dag}.{task} {state}", lambda: self.count(dag, task, state) >= count, pause=0.05)
        return time.monotonic()


def _run(dag: str, run: str) -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}"
