"""gangplan's provider for Airflow: reserve a whole gang of GPU slots before a step runs, release them after it.

A DAG imports from here: gang, hold, task (with `@task.gang`), the operators, GangplanHook.
"""

from __future__ import annotations

from gangplan import __version__
from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)  # Airflow imports this package only to ask for the provider


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
                "ui-field-behaviour": {
                    "relabeling": {"schema": "Database"},
                    "placeholders": {"host": "PostgreSQL host; no host and no URL: gangplan's own settings"},
                },
                "conn-fields": {"url": {"label": "Ledger URL", "schema": {"type": ["string", "null"]}}},
            }
        ],
    }
