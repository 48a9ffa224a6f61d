"""The page under /gangplan in Airflow's web server, for its users, by its roles, over the ledger of its connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException

from gangplan.config import load_settings
from gangplan.serve import Link, Right, make_app
from gangplan_airflow.hook import GangplanHook

_REVIEWS = {Right.REVIEW_MODEL: "gangplan_review", Right.REVIEW_PLAN: "gangplan_plan_review"}
"""Who may answer the questions of these DAGs may decide on the page too."""


class AirflowVisitor:
    """A user of Airflow: sees the reservations of the DAGs that he may read, and changes what his roles let him."""

    def __init__(self, user: BaseUser) -> None:
        self._user = user

    @property
    def name(self) -> str:
        """See `Visitor.name`."""
        return f"{self._user.get_name()} (Airflow)"

    def may(self, right: Right, key: str = "") -> bool:
        """See `Visitor.may`. What belongs to no DAG, and the plan for all, is for those who may change pools."""
        dag = dag_of(key)
        if right in _REVIEWS:
            return self._may_answer(_REVIEWS[right]) and self._is_asked()
        if right is Right.CANCEL and dag:
            return get_auth_manager().is_authorized_dag(
                method="PUT", access_entity=DagAccessEntity.RUN, details=DagDetails(id=dag), user=self._user
            )
        return get_auth_manager().is_authorized_pool(method="PUT", user=self._user)

    def _is_asked(self) -> bool:
        """Tell whether the question is for this user: the setting `reviewers` may name those who decide."""
        named = set(load_settings().reviewers)
        return not named or get_auth_manager().is_authorized_hitl_task(assigned_users=named, user=self._user)

    def _may_answer(self, dag: str) -> bool:
        return get_auth_manager().is_authorized_dag(
            method="PUT", access_entity=DagAccessEntity.HITL_DETAIL, details=DagDetails(id=dag), user=self._user
        )

    def hidden(self, keys: Iterable[str]) -> frozenset[str]:
        """See `Visitor.hidden`: the keys of DAGs that the user may not read."""
        dags = {key: dag for key in keys if (dag := dag_of(key))}
        seen = get_auth_manager().filter_authorized_dag_ids(dag_ids=set(dags.values()), user=self._user)
        return frozenset(key for key, dag in dags.items() if dag not in seen)

    def links(self, key: str) -> tuple[Link, ...]:
        """See `Visitor.links`: the DAG run and the task that made the request."""
        parts = key.split("/")
        if len(parts) < 5 or not dag_of(key):
            return ()
        # Neither a DAG's nor a task's id may have a slash, a run's id may.
        dag, run, task, index = parts[1], "/".join(parts[2:-2]), parts[-2], parts[-1].partition("#")[0]
        place = f"/dags/{quote(dag, safe='')}/runs/{quote(run, safe='')}"
        mapped = f"/mapped/{index}" if index.isdecimal() else ""
        return (
            Link(text=f"DAG run {run}", href=place),
            Link(text=f"Task {task}", href=f"{place}/tasks/{quote(task, safe='')}{mapped}"),
        )


def dag_of(key: str) -> str:
    """Return the id of the DAG whose task made a request; empty where none did."""
    parts = key.split("/")
    return parts[1] if len(parts) > 2 and parts[0].partition(":")[0] == "airflow" else ""


def visitor(user: Annotated[BaseUser, Depends(get_user)]) -> AirflowVisitor:
    """Return who asks; without a session `get_user` refuses, without the right to see Airflow's pages this does."""
    if not get_auth_manager().is_authorized_view(access_view=AccessView.WEBSITE, user=user):
        raise HTTPException(403, "You may not see Airflow's pages")
    return AirflowVisitor(user)


def make_web() -> FastAPI:
    """Make the application; the connection `gangplan_default` names its ledger, as it does for the operators."""
    return make_app(visitor, ledger_url=lambda: GangplanHook().ledger_url())
