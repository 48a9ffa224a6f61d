"""gangplan's provider for Airflow: reserve a whole gang of GPU slots before a step runs, release them after it.

A DAG imports from here: gang, hold, task (with `@task.gang`), the operators, GangplanHook.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from gangplan import __version__
from gangplan.errors import InputError
from gangplan.extras import lazy_face

OLDEST = (3, 1)
"""Airflow before it is built on a SQLAlchemy that gangplan's ledger does not run on."""

__getattr__, __dir__ = lazy_face(__name__, __file__)  # Airflow imports this package only to ask for the provider


def refuse_older_airflow() -> None:
    """Refuse to run in an Airflow that is older than the oldest that gangplan supports."""
    for name in ("apache-airflow-core", "apache-airflow"):  # Airflow 2 has only the second
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if tuple(map(int, found.split(".")[:2])) < OLDEST:
            remedy = "is too old for gangplan, which needs Airflow 3.1 or newer: older ones cannot have SQLAlchemy 2"
            raise InputError("apache-airflow", found, remedy)
        return


refuse_older_airflow()


_FORM: dict[str, object] = {
    "hidden-fields": [],
    "relabeling": {"host": "Ledger: a URL, or the host of PostgreSQL", "schema": "Database"},
    "placeholders": {
        "host": "db.example, sqlite:////var/lib/gangplan/ledger.db or kueue://context/namespace/queue; empty: settings",
        "login": "PostgreSQL only",
        "password": "PostgreSQL only; never in the URL, which all who see connections can read",
        "port": "5432",
    },
}
"""The connection's form. What is needed comes first: the ledger, then who logs in; nothing of it is an extra field."""

_CONFIG: dict[str, object] = {
    "gangplan": {
        "description": "Alerts of the DAGs that ship with gangplan.",
        "options": {
            "deadline_minutes": {
                "description": "Minutes after which a run of a DAG of the cycle is late; 0: it never is.",
                "version_added": "0.1.0",
                "type": "integer",
                "example": "90",
                "default": "0",
            },
            "deadline_callback": {
                "description": "Dotted path of the async function that is called for a late run; "
                "without one, the triggerer's log says so.",
                "version_added": "0.1.0",
                "type": "string",
                "example": "company.alerts.page_the_platform_team",
                "default": "",
            },
        },
    }
}


def get_provider_info() -> dict[str, object]:
    """Describe the provider to Airflow: its hook, its connection type, its operators, triggers, decorator and link."""
    return {
        "package-name": "gangplan",
        "name": "gangplan",
        "description": "Reserve gangs of GPU slots for the steps of a DAG.",
        "versions": [__version__],
        "integrations": [{"integration-name": "gangplan", "external-doc-url": "", "tags": ["service"]}],
        "hooks": [{"integration-name": "gangplan", "python-modules": ["gangplan_airflow.hook"]}],
        "operators": [
            {
                "integration-name": "gangplan",
                "python-modules": ["gangplan_airflow.operators", "gangplan_airflow.gangs.renew"],
            }
        ],
        "sensors": [{"integration-name": "gangplan", "python-modules": ["gangplan_airflow.gangs.sensor"]}],
        "triggers": [
            {
                "integration-name": "gangplan",
                "python-modules": ["gangplan_airflow.trigger", "gangplan_airflow.gangs.sensor"],
            }
        ],
        "task-decorators": [{"name": "gang", "class-name": "gangplan_airflow.gangs.decorator.gang_task"}],
        "extra-links": ["gangplan_airflow.links.ReservationLink"],
        "connection-types": [
            {
                "connection-type": "gangplan",
                "hook-class-name": "gangplan_airflow.hook.GangplanHook",
                "hook-name": "gangplan ledger",
                "ui-field-behaviour": _FORM,
            }
        ],
        "config": _CONFIG,
    }
