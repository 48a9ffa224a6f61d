"""The shadow: a challenger forecasts beside the champion, from the same moments, before it may take its place.

Nothing is steered by these forecasts. Each pair is a run in MLflow (`kind` = `shadow`); it is compared with the demand
that came when somebody asks how the challenger stands. Both models forecast hours that neither can have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from mlflow.entities import Run

from gangplan.config import Settings
from gangplan.forecast import registry
from gangplan.forecast.evaluation import Gap, gap, side_by_side, to_table
from gangplan.forecast.registry import Alias
from gangplan.forecast.series import from_usage
from gangplan.tables import DEMAND, QUANTILE_TABLE, conform, empty
from gangplan.tracking import FORECAST, MODEL, TELEMETRY, Store
from gangplan.types import SERIES, Usage

KIND = "shadow"
EVERY = timedelta(hours=6)
"""The least time between two forecasts in the shadow."""

MOST_RUNS = 1000


@dataclass(frozen=True, kw_only=True)
class ShadowStanding:
    """How far a challenger is through its shadow, and how it does there; `gap` is none before anything came."""

    days: float
    needed: float
    forecasts: int
    champion: str
    gap: Gap | None

    @property
    def done(self) -> bool:
        """Whether it has been long enough, with a forecast for each day at least, and was measured."""
        return self.days >= self.needed and self.forecasts >= self.needed and self.gap is not None

    @property
    def words(self) -> str:
        """How it stands, for a reviewer."""
        result = "No hour of them has come yet." if self.gap is None else self.gap.headline("the champion")
        return f"{self.forecasts} forecasts beside the champion, version {self.champion}. {result}"


def observe(store: Store, usage: Usage, settings: Settings) -> str | None:
    """Let a challenger that has to stand in the shadow forecast beside the champion; return the run, or none.

    Asked twice within `EVERY` hours it does nothing: so it can be asked after every import.
    """
    version, champion = (registry.alias(store, name) for name in (Alias.CHALLENGER, Alias.CHAMPION))
    if version is None or champion is None or version == champion or _needed(store, version) <= 0:
        return None
    panel = from_usage(usage)
    before = _runs(store, version)
    if before and panel.end - _issued(before[0]) < EVERY:
        return None
    tags = {"kind": KIND, "version": version, "champion": champion, "issued_at": panel.end.isoformat()}
    with store.run(FORECAST, f"shadow {version}", {**tags, "sha256.usage": usage.sha256}) as run_id:
        for name, asked in (("challenger", version), ("champion", champion)):
            quantiles, _ = registry.load(store, asked).steering.quantiles(panel, settings.horizon_hours)
            store.log_table(run_id, name, to_table(panel, quantiles))
    return run_id


def standing(store: Store, version: str, usage: Usage | None = None) -> ShadowStanding | None:
    """Return how a version stands in its shadow; none where it needs no shadow.

    Forecasts beside the present champion count; those beside an earlier one do not. Without telemetry given, the newest
    import's demand is what came.
    """
    needed = _needed(store, version)
    if needed <= 0:
        return None
    champion = registry.alias(store, Alias.CHAMPION) or "none"
    runs = [run for run in _runs(store, version) if run.data.tags["champion"] == champion]
    demand = empty(DEMAND) if usage is None else usage.demand
    if usage is None and (imports := store.runs(TELEMETRY, {"kind": "import"})):
        demand = store.read_table(imports[0].info.run_id, "demand")
    newest = demand["hour"].max()
    if not runs or not isinstance(newest, datetime):
        return ShadowStanding(days=0.0, needed=needed, forecasts=0, champion=champion, gap=None)
    days = max(0.0, (newest + timedelta(hours=1) - _issued(runs[-1])) / timedelta(days=1))
    pairs = [[_beside(store, run, name, demand) for name in ("challenger", "champion")] for run in runs]
    rows = pl.concat([side_by_side(mine, other) for mine, other in pairs])
    measured = gap("in the shadow", rows, float(rows["gpus"].sum())) if rows.height else None
    return ShadowStanding(days=days, needed=needed, forecasts=len(runs), champion=champion, gap=measured)


def _needed(store: Store, version: str) -> float:
    """Return how many days a version has to stand in the shadow."""
    return float(store.client.get_model_version(MODEL, version).tags.get("shadow_days", "0"))


def _runs(store: Store, version: str) -> list[Run]:
    """Return the forecasts of a version in the shadow, the newest first."""
    runs = store.runs(FORECAST, {"kind": KIND, "version": version}, limit=MOST_RUNS)
    return sorted(runs, key=_issued, reverse=True)


def _issued(run: Run) -> datetime:
    return datetime.fromisoformat(run.data.tags["issued_at"])


def _beside(store: Store, run: Run, name: str, demand: pl.DataFrame) -> pl.DataFrame:
    """Return one forecast with `origin` and what came as `gpus`."""
    quantiles = conform(name, store.read_table(run.info.run_id, name), QUANTILE_TABLE)
    origin = pl.lit(_issued(run)).dt.cast_time_unit("us").alias("origin")
    came = conform("demand", demand, DEMAND)
    return quantiles.join(came, on=["hour", *SERIES], how="inner").with_columns(origin)
