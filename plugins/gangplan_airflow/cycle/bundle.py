"""The DAGs that ship with gangplan, as a bundle of Airflow: one line in its configuration switches them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle

DAGS = Path(__file__).parents[1] / "dags"


class GangplanDagBundle(LocalDagBundle):
    """Reads the DAGs where gangplan is installed, so that they are always those of its version.

    `examples` adds the examples to the DAGs of the cycle.
    """

    def __init__(self, *, examples: bool = False, **kwargs: Any) -> None:
        super().__init__(path=str(DAGS if examples else DAGS / "cycle"), **kwargs)
