"""The demand model as MLflow serves it: a table of hourly demand in, a table of quantiles out."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import polars as pl
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from gangplan.clock import HOUR
from gangplan.errors import InputError
from gangplan.forecast.asked import read_demand, read_events, read_horizon
from gangplan.forecast.evaluation import to_table
from gangplan.forecast.libraries import uncollected
from gangplan.forecast.models import Bundle, read_bundle
from gangplan.forecast.series import from_tables
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import SERIES

ARTIFACT = "fits"
HORIZON = 168
_HOUR_OF_SERIES = [ColSpec(DataType.datetime, "hour"), *(ColSpec(DataType.string, name) for name in SERIES)]

SIGNATURE = ModelSignature(
    inputs=Schema([*_HOUR_OF_SERIES, ColSpec(DataType.double, "gpus")]),
    outputs=Schema([*_HOUR_OF_SERIES, *(ColSpec(DataType.double, name) for name in QUANTILE_COLUMNS)]),
    params=ParamSchema(
        [
            ParamSpec("horizon_hours", DataType.long, HORIZON),
            ParamSpec("events", DataType.string, "[]"),  # JSON: [{"start", "end", "kind", "tenant"}], ISO 8601, UTC
        ]
    ),
)


class ServedModel(PythonModel):
    """Reads the fits beside it and forecasts the hours after the last one given."""

    bundle: Bundle

    def load_context(self, context: PythonModelContext) -> None:
        """Read both fits."""
        artifacts: dict[str, str] = context.artifacts
        self.bundle = read_bundle(Path(artifacts[ARTIFACT]))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  MLflow finds its parameters by name
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast `horizon_hours` from the hour after the newest given; times are UTC.

        Raises
        ------
        MlflowException
            The input is wrong: it names the field, so that a server of MLflow's answers 400 with these words.
        """
        try:
            with uncollected():
                return self._forecast(model_input, params or {})
        except InputError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None

    def _forecast(self, given: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        """Read what is asked, and answer."""
        model = self.bundle.steering
        horizon = read_horizon(params, HORIZON)
        events = read_events(str(params.get("events", "[]")))
        demand = read_demand(given, datetime.fromisoformat(model.fitted_until) if model.fitted_until else None)
        panel = from_tables(demand, events, end=demand["hour"].max() + HOUR)  # pyright: ignore
        quantiles, _ = model.quantiles(panel, horizon)
        return to_table(panel, quantiles).with_columns(pl.col("hour").dt.replace_time_zone(None)).to_pandas()


def example_input(trained_until: str) -> pd.DataFrame:
    """Return an input that the model can answer: two days of one series, up to the end of its training."""
    end = datetime.fromisoformat(trained_until or "2026-03-04T00:00:00+00:00")
    first = end.replace(tzinfo=None) - timedelta(hours=48)  # MLflow's datetime columns carry no zone: they are UTC
    hours = [first + timedelta(hours=step) for step in range(48)]
    series = dict(zip(SERIES, ("language", "latency", "h100"), strict=True))
    demand = [40.0 + 8.0 * (step % 24 // 8) for step in range(48)]
    return pd.DataFrame({"hour": hours, **{name: [value] * 48 for name, value in series.items()}, "gpus": demand})
