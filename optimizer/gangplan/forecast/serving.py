"""The demand model as MLflow serves it: a table of hourly demand in, a table of quantiles out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import polars as pl
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from gangplan.forecast.evaluation import to_table
from gangplan.forecast.libraries import uncollected
from gangplan.forecast.models import Bundle, read_bundle
from gangplan.forecast.series import from_tables
from gangplan.tables import EVENTS, QUANTILE_COLUMNS
from gangplan.types import SERIES

ARTIFACT = "fits"
HORIZON = 168
_HOUR_OF_SERIES = [ColSpec(DataType.datetime, "hour"), *(ColSpec(DataType.string, name) for name in SERIES)]

SIGNATURE = ModelSignature(
    inputs=Schema([*_HOUR_OF_SERIES, ColSpec(DataType.double, "gpus", required=False)]),
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
        """Forecast `horizon_hours` from the hour after the newest given; times are UTC."""
        params = params or {}
        with uncollected():
            demand = _demand(model_input)
            newest = demand["hour"].max()
            end = (newest if isinstance(newest, datetime) else datetime.now(UTC)) + timedelta(hours=1)
            panel = from_tables(demand, _events(str(params.get("events", "[]"))), end=end)
            quantiles, _ = self.bundle.steering.quantiles(panel, int(params.get("horizon_hours", HORIZON)))
            return to_table(panel, quantiles).with_columns(pl.col("hour").dt.replace_time_zone(None)).to_pandas()


def example_input() -> pd.DataFrame:
    """Return an input that the model can answer: two days of one series."""
    first = datetime(2026, 3, 2)  # noqa: DTZ001  MLflow's datetime columns carry no zone: they are UTC
    hours = [first + timedelta(hours=step) for step in range(48)]
    series = dict(zip(SERIES, ("language", "latency", "h100"), strict=True))
    demand = [40.0 + 8.0 * (step % 24 // 8) for step in range(48)]
    return pd.DataFrame({"hour": hours, **{name: [value] * 48 for name, value in series.items()}, "gpus": demand})


def _demand(given: pd.DataFrame) -> pl.DataFrame:
    """Read MLflow's pandas input as a demand table in UTC."""
    frame = pl.from_pandas(given)
    hours = pl.col("hour").cast(pl.Datetime("us"))
    return frame.with_columns(hours.dt.replace_time_zone("UTC"), pl.col("gpus").cast(pl.Float64).fill_nan(None))


def _events(text: str) -> pl.DataFrame:
    """Read the events parameter."""
    rows = json.loads(text)
    times = [{**row, **{name: datetime.fromisoformat(row[name]) for name in ("start", "end")}} for row in rows]
    return pl.DataFrame(times, schema=EVENTS)
