"""Minutes to three hours ahead on three public traces at 5 minutes, beside naive and classical peers.

The last 30 % of each trace, origins that visit all times of day; ours is fitted anew every ten origins on the past
alone, the peers at each origin. Bases and averages were chosen on these very days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table
from statsforecast.models import AutoETS

from benchmarks.parts import traces
from benchmarks.parts.figures import Figure
from benchmarks.parts.traces import wql
from gangplan.forecast.models import naive
from gangplan.forecast.outlook import minutes
from gangplan.forecast.outlook.minutes import MinutePanel
from gangplan.forecast.series.arrays import Floats, tidy
from gangplan.telemetry.demand import mean_by_hour
from gangplan.telemetry.sources.folder import read_path
from gangplan.types import QUANTILES

STEP, AHEAD, HOUR, DAY = timedelta(minutes=5), 36, 12, 288
OURS = "gangplan"
_LEVELS = [80, 90, 98]
_NAMES = ("lo-80", "mean", "hi-80", "hi-90", "hi-98")

Peer = Callable[[Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a forecaster made (origins x steps x levels), and what came."""

    made: Floats
    came: Floats

    def wql(self, steps: int) -> float:
        """Weighted quantile loss of the first steps in per cent of mean demand."""
        return wql(self.made[:, :steps], self.came[:, :steps])

    @property
    def held(self) -> tuple[float, float]:
        """Per cent within the 80 % band, and under the 0.95 quantile."""
        inside = (self.came >= self.made[..., 0]) & (self.came <= self.made[..., 2])
        return 100 * float(inside.mean()), 100 * float((self.came <= self.made[..., 3]).mean())


def genai() -> MinutePanel:
    """Workers that image requests keep busy, by the step in which they were asked for."""
    rows = pl.read_csv(traces.file("genai"), infer_schema_length=None, try_parse_dates=True)
    whole = rows["gmt_create"].dt.truncate("1h")
    first, last = whole.min() + timedelta(hours=1), whole.max()  # type: ignore[operator]
    place = ((rows["gmt_create"] - first).dt.total_seconds() // int(STEP.total_seconds())).to_numpy()
    steps, inside = (last - first) // STEP, (place >= 0) & (place < (last - first) // STEP)
    work = rows["exec_time_seconds"].cast(pl.Float64).fill_null(0.0).to_numpy()
    busy = np.bincount(place[inside], work[inside], steps) / STEP.total_seconds()
    return _fine(busy, first.replace(tzinfo=UTC))


def openb() -> MinutePanel:
    """GPUs asked for by the pods of Alibaba gpu-v2023, after its ramp of survivors."""
    found = read_path(traces.file("openb"), datetime.now(UTC))
    return _held(found.jobs, found.start, found.end)


def dlrm() -> MinutePanel:
    """GPUs asked for by a recommendation service."""
    jobs, end = traces.dlrm_jobs()
    return _held(jobs, traces.MONDAY, end)


def _held(jobs: pl.DataFrame, start: datetime, end: datetime) -> MinutePanel:
    """The mean GPUs of all jobs in each step."""
    unit = STEP.total_seconds()
    since, until = (jobs[name].fill_null(end).clip(start, end) for name in ("submitted_at", "ended_at"))
    places = [((one - start).dt.total_seconds() / unit).to_numpy() for one in (since, until)]
    return _fine(mean_by_hour(*places, jobs["gpus"].to_numpy(), (end - start) // STEP), start)


def _fine(values: Floats, start: datetime) -> MinutePanel:
    """One series."""
    return MinutePanel(start=start, step=STEP, keys=(("all", "all", "all"),), values=values[None])


def last_value(known: Floats) -> Floats:
    """The last value with the quantiles of its own past errors."""
    return naive.last_value_quantiles(_fine(known, traces.MONDAY), AHEAD)[0]


def hours_mean(known: Floats) -> Floats:
    """The mean of the last hour, with the same."""
    sums = np.concatenate([[0.0], np.cumsum(known)])
    return _spread(known, lambda at: np.repeat(((sums[at] - sums[at - HOUR]) / HOUR)[:, None], AHEAD, axis=1))


def yesterday(known: Floats) -> Floats:
    """The same time of yesterday, with the same."""
    return _spread(known, lambda at: known[at[:, None] + np.arange(AHEAD) - DAY])


def ets(known: Floats) -> Floats:
    """statsforecast's AutoETS on the last two days, without a season."""
    said = AutoETS(season_length=1).forecast(y=known[-2 * DAY :], h=AHEAD, level=_LEVELS)
    return tidy(np.stack([said[name] for name in _NAMES], axis=-1))


def _spread(known: Floats, point: Callable[[np.ndarray], Floats]) -> Floats:
    """Put the quantiles of a forecast's errors of the last week about it."""
    at = np.arange(max(DAY, known.size - 7 * DAY), known.size - AHEAD + 1)
    errors = np.quantile(known[at[:, None] + np.arange(AHEAD)] - point(at), QUANTILES, axis=0).T
    return tidy(point(np.array([known.size]))[0][:, None] + errors - errors[:, [QUANTILES.index(0.5)]])


PEERS: dict[str, Peer] = {"last value": last_value, "hour's mean": hours_mean, "yesterday": yesterday, "AutoETS": ets}
READERS: dict[str, Callable[[], MinutePanel]] = {"openb": openb, "dlrm": dlrm, "genai": genai}


def figures() -> list[Figure]:
    """Print a table for each trace; give ours at one and at three hours beside the best peer, and how bands held."""
    made: list[Figure] = []
    for name, read in READERS.items():
        found = _all(name, read())
        table = Table(title=f"{name}, steps of 5 minutes, {len(found[OURS].came)} origins", title_justify="left")
        for column in ("forecast", "WQL 1 h", "WQL 3 h", "80 % band / under 95 %"):
            table.add_column(column)
        for peer, one in found.items():
            table.add_row(peer, f"{one.wql(HOUR):.3f}", f"{one.wql(AHEAD):.3f}", "{:.0f}/{:.0f}".format(*one.held))
        Console(width=120).print(table)
        made += _figures(name, found)
    return made


def _figures(name: str, found: dict[str, Found]) -> list[Figure]:
    """Our losses beside the best peer's."""
    made: list[Figure] = []
    for hours, steps in ((1, HOUR), (3, AHEAD)):
        losses = {peer: one.wql(steps) for peer, one in found.items() if peer != OURS}
        best = min(losses, key=lambda peer: losses[peer])
        value, words = found[OURS].wql(steps), f"{best} {losses[best]:.3f}"
        bar = f"<= {losses[best]:.4g}"
        made.append(Figure(name=f"minutes_{name}_{hours}h", value=value, unit="% WQL", bar=bar, peer=words))
    held = found[OURS].held
    made.append(Figure(name=f"minutes_{name}_band", value=held[0], unit="% in the 80 % band"))
    return made


def _all(name: str, fine: MinutePanel) -> dict[str, Found]:
    """Ask everybody at each origin."""
    values, first = fine.values[0], int(fine.steps * 0.7)
    origins = range(first, fine.steps - AHEAD, 65)  # no multiple of an hour: all times of day are visited
    made: dict[str, list[Floats]] = {OURS: [], **{peer: [] for peer in PEERS}}
    model = minutes.MinuteModel(trees=())
    for place, origin in enumerate(track(origins, description=f"{name:6} in minutes", transient=True)):
        known = fine.until(origin)
        model = minutes.fit(known, AHEAD, seed=7) if place % 10 == 0 else model
        made[OURS].append(model.quantiles(known, AHEAD)[0])
        for peer, ask in PEERS.items():
            made[peer].append(ask(values[:origin]))
    came = np.stack([values[origin : origin + AHEAD] for origin in origins])
    return {peer: Found(made=np.stack(one), came=came) for peer, one in made.items()}
