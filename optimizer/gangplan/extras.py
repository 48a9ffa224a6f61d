"""Name the extra that is missing, instead of a bare ImportError."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from gangplan.errors import MissingExtraError

_EXTRA_OF = {
    "polars": "forecast",
    "mlflow": "forecast",
    "lightgbm": "forecast",
    "matplotlib": "forecast",
    "jinja2": "forecast",
    "httpx": "forecast",
    "numpy": "forecast",
    "pyomo": "plan",
    "highspy": "plan",
    "psycopg": "postgres",
    "kubernetes": "kubernetes",
    "urllib3": "kubernetes",
    "airflow": "airflow",
    "kfp": "kfp",
}


@contextmanager
def needs_extras() -> Generator[None]:
    """Turn the ImportError of a known optional library into an error that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in _EXTRA_OF:
            raise
        raise MissingExtraError(module, _EXTRA_OF[module]) from error
