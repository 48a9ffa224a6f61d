"""What the tests take from Airflow, and other versions of it keep elsewhere."""

from __future__ import annotations

try:
    from airflow._shared.module_loading import find_path_from_directory
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:  # Airflow 3.1
    from airflow.exceptions import TaskDeferred
    from airflow.models.dagbag import DagBag
    from airflow.utils.file import find_path_from_directory

from airflow import __version__

AIRFLOW = tuple(map(int, __version__.split(".")[:2]))

__all__ = ["AIRFLOW", "DagBag", "TaskDeferred", "find_path_from_directory"]
