"""Demand forecasts on three public traces beside their peers, and what a training costs.

Everything is fitted again at each origin on its past alone; one recipe, no setting for a trace. Parts run by
themselves, `python -m benchmarks.forecast --only spikes forecasting`, into a file of their own in .run/bench.
"""

from __future__ import annotations

import os
import resource
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.target_transforms import Differences
from mlforecast.utils import PredictionIntervals
from rich.console import Console
from rich.progress import track
from rich.table import Table
from statsforecast.models import MSTL, AutoETS, AutoTheta

from benchmarks.parts import minutes, published, registry_costs, spikes, totals, traces
from benchmarks.parts.figures import Figure, report, write
from benchmarks.parts.traces import Trace, wql
from gangplan.forecast.models import demand, naive
from gangplan.forecast.series.arrays import Floats, tidy
from gangplan.forecast.series.panel import Panel
from gangplan.tables import EVENTS, empty
from gangplan.types import QUANTILES

BARS = {"openb": (4.2, 5.8), "dlrm": (0.140, 0.245), "genai": (25.0, 27.0)}
COVERAGE, BELOW = (76.0, 86.0), (93.0, 97.0)
BUCKETS = ((1, 6), (7, 24), (25, 48), (49, 72))
OURS = "gangplan"
_LEVELS = [80, 90, 98]
_NAMES = ("lo-80", "mean", "hi-80", "hi-90", "hi-98")

Forecaster = Callable[[Panel, int], Floats]


def gangplan(known: Panel, horizon: int) -> Floats:
    """Fit and ask the product's model."""
    return demand.fit(known, horizon, seed=7).quantiles(known, horizon)[0][0]


def classical(make: Callable[[], MSTL | AutoETS | AutoTheta]) -> Forecaster:
    """Return a model of statsforecast with its own intervals."""

    def run(known: Panel, horizon: int) -> Floats:
        said = make().forecast(y=known.values[0], h=horizon, level=_LEVELS)
        return tidy(np.stack([said[name] for name in _NAMES], axis=-1))

    return run


def yesterday(known: Panel, horizon: int) -> Floats:
    """Repeat yesterday, spread by the errors that this made."""
    back = 24 * (-(-np.arange(1, horizon + 1) // 24))
    row = known.values[0]
    spread = np.stack([np.quantile(row[lag:] - row[:-lag], QUANTILES) for lag in back])
    spread[:, QUANTILES.index(0.5)] = 0.0
    return tidy(row[known.hours + np.arange(horizon) - back][:, None] + spread)


def mlforecast(known: Panel, horizon: int) -> Floats:
    """Fit mlforecast's LightGBM on first differences, with conformal intervals."""
    stamps = pd.date_range(known.start.replace(tzinfo=None), periods=known.hours, freq="h")
    frame = pd.DataFrame({"unique_id": 0, "ds": stamps, "y": known.values[0]})
    made = MLForecast(
        models={"m": lgb.LGBMRegressor(verbosity=-1, n_jobs=1)},
        freq="h",
        lags=[1, 2, 3, 6, 12, 24, 48, 168],
        date_features=["hour", "dayofweek"],
        target_transforms=[Differences([1])],
    )
    made.fit(frame, prediction_intervals=PredictionIntervals(n_windows=2, h=horizon))
    said = made.predict(horizon, level=_LEVELS)
    return tidy(said[["m-lo-80", "m", "m-hi-80", "m-hi-90", "m-hi-98"]].to_numpy(dtype=np.float64))


FORECASTERS: dict[str, Forecaster] = {
    OURS: gangplan,
    "last value": lambda known, horizon: naive.last_value_quantiles(known, horizon)[0],
    "yesterday": yesterday,
    "last week": lambda known, horizon: naive.seasonal_quantiles(known, horizon)[0],
    "AutoTheta": classical(lambda: AutoTheta(season_length=24)),
    "AutoETS": classical(lambda: AutoETS(season_length=24)),
    "MSTL+ETS": classical(lambda: MSTL(season_length=[24, 168], trend_forecaster=AutoETS(model="ZZN"))),
    "mlforecast": mlforecast,
}


def chance(trace: Trace, mine: Floats, other: Floats) -> tuple[int, float]:
    """Origins that the first wins, and how often luck alone gives such a gain (sign flips, 10,000 draws)."""
    came = trace.came
    ours, theirs = (np.array([wql(a, b) for a, b in zip(made, came, strict=True)]) for made in (mine, other))
    gain = theirs - ours
    flips = np.random.default_rng(0).choice([-1.0, 1.0], (10_000, gain.size))
    return int((gain > 0).sum()), float((np.abs((flips * gain).mean(axis=1)) >= abs(gain.mean()) - 1e-15).mean())


def accuracy(trace: Trace) -> list[Figure]:
    """Print a trace's table; give its figures."""
    made: dict[str, Floats] = {}
    table = Table(title=f"{trace.name}: {trace.count} origins, mean {trace.came.mean():,.0f}", title_justify="left")
    far = trace.horizon
    for column in ("forecast", "WQL 24 h", f"WQL {far} h", "80 % band / under 95 %", "origins won", "luck", "s/origin"):
        table.add_column(column)
    for name, forecaster in track(FORECASTERS.items(), description=f"{trace.name:6}", transient=True):
        begin = time.perf_counter()
        made[name] = np.stack([forecaster(trace.panel.until(origin), far) for origin in trace.origins])
        took = (time.perf_counter() - begin) / trace.count
        held = " ".join(f"{band:.0f}/{below:.0f}" for band, below in coverage(trace, made[name]))
        won = ("", "") if name == OURS else chance(trace, made[OURS], made[name])
        words = ("", "") if name == OURS else (f"{won[0]}/{trace.count}", f"{won[1]:.2f}")
        table.add_row(name, *(f"{loss:.3f}" for loss in losses(trace, made[name])), held, *words, f"{took:.2f}")
    Console(width=120).print(table)
    figures: list[Figure] = []
    for place, hours in enumerate((24, far)):
        rivals = {name: losses(trace, one)[place] for name, one in made.items() if name != OURS}
        best = min(rivals, key=lambda name: rivals[name])
        figures.append(
            Figure(
                name=f"{trace.name}_{hours}",
                value=losses(trace, made[OURS])[place],
                unit="% WQL",
                bar=f"<= {BARS[trace.name][place]}",
                peer=f"{best} {rivals[best]:.3f}",
            )
        )
    return figures + covered(trace, made[OURS])


def elsewhere() -> list[Figure]:
    """Print how all do on series that nothing was chosen on; give our loss as a share of the best peer's."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in FORECASTERS}
    for series in track(traces.OTHERS, description="others", transient=True):
        windows = traces.elsewhere(series)
        came = np.concatenate([one.came for one in windows])
        for name, forecaster in FORECASTERS.items():
            said = [forecaster(one.panel.until(origin), one.horizon) for one in windows for origin in one.origins]
            made = np.stack(said)
            found[name].append((wql(made[:, :24], came[:, :24]), wql(made, came)))
    loss = {name: np.array(rows) for name, rows in found.items()}
    share = {name: np.exp(np.log(loss[OURS] / rows).mean(axis=0)) for name, rows in loss.items()}
    table = Table(title="other series, later half, WQL 72 h; 8 origins each", title_justify="left")
    for column in ("forecast", *traces.OTHERS, "ours / its, 24 h", "72 h"):
        table.add_column(column)
    for name, rows in loss.items():
        table.add_row(name, *(f"{one:.2f}" for one in rows[:, 1]), *(f"{one:.2f}" for one in share[name]))
    Console(width=160).print(table)
    figures: list[Figure] = []
    for place, hours in enumerate((24, 72)):
        best = max((name for name in share if name != OURS), key=lambda name: share[name][place])
        value = float(share[best][place])
        figures.append(Figure(name=f"others_{hours}", value=value, unit="x best peer", bar="<= 1", peer=best))
    return figures


def losses(trace: Trace, made: Floats) -> tuple[float, float]:
    """WQL of the first day and of the whole horizon."""
    return wql(made[:, :24], trace.came[:, :24]), wql(made, trace.came)


def coverage(trace: Trace, made: Floats) -> list[tuple[float, float]]:
    """Per cent of hours within the 80 % band, and under the 0.95 quantile, by bucket of horizons."""
    found: list[tuple[float, float]] = []
    for first, last in BUCKETS:
        if first <= trace.horizon:
            came, said = trace.came[:, first - 1 : last], made[:, first - 1 : last]
            inside = (came >= said[..., 0]) & (came <= said[..., 2])
            found.append((100 * float(inside.mean()), 100 * float((came <= said[..., 3]).mean())))
    return found


def covered(trace: Trace, made: Floats) -> list[Figure]:
    """The bucket whose coverage lies farthest from its band's middle, for each of the two bands."""
    figures: list[Figure] = []
    for place, (name, band) in enumerate((("coverage_80", COVERAGE), ("below_95", BELOW))):
        worst = max((one[place] for one in coverage(trace, made)), key=lambda share: abs(share - sum(band) / 2))
        bar = f">= {band[0]:g}" if worst < sum(band) / 2 else f"<= {band[1]:g}"
        figures.append(Figure(name=f"{name}.{trace.name}", value=worst, unit="%, worst bucket", bar=bar))
    return figures


def overall(figures: list[Figure]) -> list[Figure]:
    """The trace whose coverage lies farthest from its band's middle, for each of the two bands; none without traces."""
    found: list[Figure] = []
    for name, band in (("coverage_80", COVERAGE), ("below_95", BELOW)):
        each = [figure for figure in figures if figure.name.startswith(f"{name}.")]
        if each:
            worst = max(each, key=lambda figure: abs(figure.value - sum(band) / 2))
            trace = worst.name.removeprefix(f"{name}.")
            found.append(replace(worst, name=name, unit="%, worst bucket of all traces", peer=trace))
    return found


def telemetry(series: int, hours: int = 3600) -> Panel:
    """Made-up demand for timing alone: a day, a week, a drift and noise."""
    rng = np.random.default_rng(5)
    t = np.arange(hours)
    cycle = 8 * np.sin(t / 24 * 2 * np.pi)[None] + 4 * np.sin(t / 168 * 2 * np.pi)[None]
    drift = rng.normal(0, 0.5, (series, hours)).cumsum(axis=1)
    values = np.maximum(0.0, 40 + cycle + drift + rng.normal(0, 2, (series, hours)))
    keys = tuple((f"tenant-{place:03}", "throughput", "h100") for place in range(series))
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return Panel(start=start, keys=keys, values=values, events=empty(EVENTS))


def timed_fit(series: int, cores: int) -> tuple[float, float]:
    """Seconds and peak GiB of one training on that many cores, in a process of its own."""
    with _cores(cores):
        panel = telemetry(series)
        begin = time.perf_counter()
        demand.fit(panel, 72, seed=7)
        return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed_mlforecast(series: int) -> float:
    """Seconds of mlforecast for the same: five quantile models, one core, no interval, hours ahead by recursion."""
    with _cores(1):
        panel = telemetry(series)
        stamps = pd.date_range(panel.start.replace(tzinfo=None), periods=panel.hours, freq="h")
        ids = np.repeat(np.arange(series), panel.hours)
        frame = pd.DataFrame({"unique_id": ids, "ds": np.tile(stamps, series), "y": panel.values.ravel()})
        trees = {"objective": "quantile", "n_estimators": 100, "num_leaves": 15, "verbosity": -1, "n_jobs": 1}
        made = MLForecast(
            models={f"q{level}": lgb.LGBMRegressor(**trees, alpha=level) for level in QUANTILES},
            freq="h",
            lags=[1, 2, 3, 6, 12, 24, 48, 168],
            date_features=["hour", "dayofweek"],
            target_transforms=[Differences([1])],
        )
        begin = time.perf_counter()
        made.fit(frame)
        return time.perf_counter() - begin


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Keep this process to that many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def alone(function: Callable[..., object], *arguments: int) -> object:
    """Run in a fresh process, so that memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cost() -> list[Figure]:
    """What training costs."""
    small, _ = alone(timed_fit, 20, 1)
    peer = alone(timed_mlforecast, 20)
    large, gib = alone(timed_fit, 200, 2)
    return [
        Figure(name="train_20_s", value=small, unit="s", bar="<= 34", peer=f"mlforecast, recursive {peer:.1f} s"),
        Figure(name="train_200_s", value=large, unit="s", bar="<= 180"),
        Figure(name="train_200_gib", value=gib, unit="GiB", bar="<= 2"),
    ]


def _no_others() -> str:
    """Say what to do about the series that ship inside a package, "" if they are there."""
    return "" if traces.ELSEWHERE.exists() else f"series are not in {traces.ELSEWHERE}: `make .envs/traces/.ready`"


def _nothing() -> str:
    """Say that nothing is absent."""
    return ""


_NEEDS_ALL = partial(published.absent, *traces.NAMES)
PARTS: dict[str, tuple[Callable[[], str], Callable[[], list[Figure]]]] = {
    **{
        name: (partial(published.absent, name), partial(lambda name: accuracy(traces.read(name)), name))
        for name in traces.NAMES
    },
    "spikes": (_NEEDS_ALL, spikes.figures),
    "minutes": (_NEEDS_ALL, minutes.figures),
    "totals": (partial(published.absent, "openb", "dlrm"), totals.figures),
    "others": (_no_others, elsewhere),
    "training": (_nothing, cost),
    "forecasting": (_nothing, lambda: registry_costs.forecasting(telemetry(200))),
    "reading": (_nothing, registry_costs.reading),
    "server": (_nothing, registry_costs.serving),
}
"""Each part by itself: what says which of its series are absent, and what gives its figures."""


def main() -> None:
    """Run all of it, or the parts that are named."""
    parser = ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"these parts: {', '.join(PARTS)}")
    only = parser.parse_args().only
    file = "-".join(["forecast", *(only or ())])
    figures: list[Figure] = []
    for name in only or PARTS:
        absent, run = PARTS[name]
        if missing := absent():
            Console().print(f"did not run: {name}: {missing}")
            continue
        begin = time.perf_counter()
        figures += run()
        write(file, figures)
        Console().print(f"{name} took {time.perf_counter() - begin:.0f} s")
    report(file, figures + overall(figures))


if __name__ == "__main__":
    main()
