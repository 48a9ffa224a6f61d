"""Who asks for slots: one try of one task, as the ledger's list of reservations names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from gangplan.config import load_settings
from gangplan.types import Reservation

if TYPE_CHECKING:
    from airflow.sdk import Context

LONGEST_KEY = 480
"""A longer key is cut: a ledger takes 512 characters, and needs some for the number of a later reservation."""


class OfTask(Protocol):
    """What any of Airflow's kinds of task instance says of itself."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of one task instance; its text is `airflow/<dag>/<run>/<task>/<map index>/<try>`, percent-encoded."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    @classmethod
    def of(cls, ti: OfTask) -> Attempt:
        """Return the attempt that a task instance is."""
        return cls(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
        )

    @classmethod
    def read(cls, text: str) -> Attempt | None:
        """Return the attempt that a text names; None if it is none of this Airflow's."""
        parts = text.split("/")
        if len(parts) != 6 or parts[0] != airflow_owner():
            return None
        dag, run, task, index, number = map(unquote, parts[1:])
        try:
            return cls(dag_id=dag, run_id=run, task_id=task, map_index=int(index), try_number=int(number))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.owner}/{self.try_number}"

    @property
    def owner(self) -> str:
        """The task instance, whichever its try."""
        return f"{task_owner(self.dag_id, self.run_id, self.task_id)}/{self.map_index}"

    @property
    def name(self) -> str:
        """The task instance as Airflow's own list of states names it."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"

    @property
    def key(self) -> str:
        """The request key of a task that was given none: the same on every try, another in every run."""
        return shortened(f"{airflow_owner()}/{self.dag_id}/{self.run_id}/{self.task_id}/{self.map_index}")

    def gave_key(self, reservation: Reservation) -> bool:
        """Tell whether a reservation's key is the one that its task gave it, and none that the DAG's author chose."""
        key = reservation.request.request_key
        return self.key in (key, key.rpartition("#")[0])


def ti_of(context: Mapping[str, Any] | Context) -> Any:
    """Return the task instance that a task runs as."""
    return context["ti"]  # pyright: ignore[reportTypedDictNotRequiredAccess]


def airflow_owner() -> str:
    """Return the owner of all that this Airflow's tasks asked for: `airflow`, or `airflow:<name>` if it has a name."""
    name = load_settings().airflow
    return f"airflow:{quote(name, safe='')}" if name else "airflow"


def run_owner(dag_id: str, run_id: str) -> str:
    """Return the owner of all that the tasks of a DAG run asked for."""
    return "/".join([airflow_owner(), quote(dag_id, safe=""), quote(run_id, safe="")])


def task_owner(dag_id: str, run_id: str, task_id: str) -> str:
    """Return the owner of all that one task of a run asked for, in every map index."""
    return f"{run_owner(dag_id, run_id)}/{quote(task_id, safe='')}"


def shortened(key: str) -> str:
    """Cut a key that is too long for a ledger; a hash keeps it apart from others that begin alike."""
    if len(key) <= LONGEST_KEY:
        return key
    return f"{key[: LONGEST_KEY - 33]}~{hashlib.sha256(key.encode()).hexdigest()[:32]}"
