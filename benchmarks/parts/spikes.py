"""Spikes put into public traces: which alarm while they last, how often nothing alarms, what a nowcast gains.

84 seeded spikes of 1 to 3 hours, each in a copy of the trace of its own, at any hour of its last 14 days; every hour is
judged by what came before it alone. False hours are those that alarm in the trace as it is, its own bursts included.
How many days, which scale and which expectation were chosen on the days before these and on the sample; the scale (root
or not) and two rates had been tried once on these days before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from statsmodels.tsa.seasonal import STL

from benchmarks.parts import traces
from benchmarks.parts.figures import Figure
from benchmarks.parts.traces import Trace, wql
from gangplan.forecast.models import demand
from gangplan.forecast.series.arrays import Floats
from gangplan.forecast.series.panel import Panel
from gangplan.forecast.watch import spikes
from gangplan.forecast.watch.nowcast import AHEAD, alarms_at, corrected, forecast_past_alarms, share_left
from gangplan.tables import EVENTS, empty
from gangplan.types import QUANTILES

DAYS, SPIKES = 14, 84
SIZES = (0.25, 0.5, 1.0)
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
RAMP = (0.5, 0.75, 1.0)
Flags = NDArray[np.bool_]
Detector = Callable[[Floats], Flags]


@dataclass(frozen=True, kw_only=True)
class Spike:
    """Where a spike begins and which share of its size each hour has."""

    at: int
    shape: tuple[float, ...]

    def into(self, values: Floats, size: float) -> Floats:
        """Return the values with it, in shares of the mean of the week before."""
        made = values.copy()
        made[self.at : self.at + len(self.shape)] += (
            size * values[self.at - 168 : self.at].mean() * np.array(self.shape)
        )
        return made


def draw(hours: int, *, whole: bool, seed: int = 11) -> list[Spike]:
    """Draw the spikes; those that are not whole begin at any minute of their first hour."""
    rng = np.random.default_rng(seed)
    found: list[Spike] = []
    for _ in range(SPIKES):
        at, length = int(rng.integers(hours - 24 * DAYS, hours - 4)), int(rng.integers(1, 4))
        late = 0.0 if whole else float(rng.random())
        found.append(Spike(at=at, shape=(1 - late, *[1.0] * (length - 1), *([late] if late else []))))
    return found


def ours(values: Floats) -> Flags:
    """Flag with the product's watch."""
    return spikes.watch(_panel(values)).spikes[0]


def robust_z(values: Floats) -> Flags:
    """Flag past-only z > 5 against the median of six hours, in the usual deviation of the hour over seven days."""
    found = np.zeros(values.size, dtype=bool)
    centre = np.array(
        [np.median(values[max(0, hour - 6) : hour]) if hour else values[0] for hour in range(values.size)]
    )
    miss = np.abs(values - centre)
    for hour in range(168, values.size):
        usual = 1.4826 * np.median(miss[[hour - 24 * day for day in range(1, 8)]])
        found[hour] = values[hour] - centre[hour] > 5 * max(usual, 1e-9)
    return found


def stl(values: Floats) -> Flags:
    """Flag residuals of an STL over the whole series, its future included, above four robust deviations."""
    rest = STL(values, period=24).fit().resid
    return rest > 4 * 1.4826 * np.median(np.abs(rest - np.median(rest)))


DETECTORS: dict[str, Detector] = {"gangplan": ours, "robust z > 5": robust_z, "STL, not online": stl}


def figures() -> list[Figure]:
    """Print the table and give the figures."""
    table = Table(
        title=f"{SPIKES} spikes of 1-3 h in the last {DAYS} days: recall, false hours a week", title_justify="left"
    )
    sizes = (f"+{size:.0%}" for size in SIZES)
    for column in ("trace", "detector", *sizes, "+50%, first hour", "+50%, any minute", "false h/week"):
        table.add_column(column)
    found: dict[tuple[str, str], tuple[float, float]] = {}
    rows = [(name, detector) for name in traces.NAMES for detector in DETECTORS]
    for name, detector in track(rows, description="spikes", transient=True):
        words, found[name, detector] = _row(traces.read(name), DETECTORS[detector])
        table.add_row(name, detector, *words)
    Console(width=120).print(table)
    (recall, false), (peer, peer_false) = found["openb", "gangplan"], found["openb", "robust z > 5"]
    return [
        Figure(name="spike_recall", value=recall, unit="of +50 %", bar=">= 0.85", peer=f"robust z {peer:.2f}"),
        Figure(name="spike_false", value=false, unit="hours a week", bar="<= 1", peer=f"robust z {peer_false:.1f}"),
        *_nowcast(traces.read("openb")),
    ]


def _row(trace: Trace, detector: Detector) -> tuple[list[str], tuple[float, float]]:
    """Recall at each size, of the first hour, at any minute; false hours a week."""
    values = trace.panel.values[0]
    whole = draw(values.size, whole=True)
    hits = {size: [_seen(values, spike, size, detector) for spike in whole] for size in SIZES}
    any_minute = [_seen(values, spike, 0.5, detector) for spike in draw(values.size, whole=False)]
    false = float(detector(values)[-24 * DAYS :].sum()) * 7 / DAYS
    recalls = [float(np.mean([hit.any() for hit in hits[size]])) for size in SIZES]
    first = float(np.mean([hit[0] for hit in hits[0.5]]))
    told = [*recalls, first, float(np.mean([hit.any() for hit in any_minute]))]
    return [*(f"{share:.2f}" for share in told), f"{false:.1f}"], (recalls[SIZES.index(0.5)], false)


def _seen(values: Floats, spike: Spike, size: float, detector: Detector) -> Flags:
    """Say in which of its hours the spike was flagged; an online detector is not given more than these."""
    end = spike.at + len(spike.shape)
    made = spike.into(values, size)
    return detector(made if detector is stl else made[:end])[spike.at : end]


def _nowcast(trace: Trace) -> list[Figure]:
    """Loss of the hours after an alarm: the forecast from before it, corrected by the nowcast; the trees asked anew."""
    made: dict[str, list[Floats]] = {"stale": [], "nowcast": [], "anew": [], "replanned": []}
    came: list[Floats] = []
    for origin in track(trace.origins, description="nowcast", transient=True):
        fitted = demand.fit(trace.panel.until(origin), 24, seed=7)
        stale = fitted.quantiles(trace.panel.until(origin), 24)[0][0]
        for at, shape in ((origin + 5, RAMP), (origin + 9, (1.0, 1.0)), (origin + 12, (1.0,))):
            panel = _panel(Spike(at=at, shape=shape).into(trace.panel.values[0], 1.0), trace.panel)
            known = panel.until(at + 1)
            seen = spikes.watch(known)
            ahead = stale[at + 1 - origin :][:AHEAD]
            alarms = alarms_at(known, seen, at)
            came.append(panel.values[0, at + 1 : at + 1 + AHEAD])
            made["stale"].append(ahead)
            made["anew"].append(fitted.quantiles(known, AHEAD)[0][0])
            made["replanned"].append(forecast_past_alarms(known, lambda one: fitted.quantiles(one, AHEAD)[0])[0][0])  # noqa: B023
            excess = known.values[0, -1] - stale[at - origin, QUANTILES.index(0.5)]
            left = share_left(known, seen, alarms[0]) if alarms else None
            made["nowcast"].append(ahead if left is None else corrected(ahead, excess, left))
    found: list[Figure] = []
    for hours in (2, AHEAD):
        losses = {name: wql(np.stack(one)[:, :hours], np.stack(came)[:, :hours]) for name, one in made.items()}
        peer = f"uncorrected {losses['stale']:.1f}, trees anew {losses['anew']:.1f}"
        found.append(Figure(name=f"nowcast_{hours}h", value=losses["nowcast"], unit="% WQL, openb", peer=peer))
        found.append(Figure(name=f"replanned_{hours}h", value=losses["replanned"], unit="% WQL, openb", peer=peer))
    return found


def _panel(values: Floats, like: Panel | None = None) -> Panel:
    """Make a panel of one series, with the jobs of another one."""
    if like is None:
        return Panel(start=_MONDAY, keys=(("all", "all", "all"),), values=values[None], events=empty(EVENTS))
    return replace(like, values=values[None])
