"""Power curves: fitted from what was measured, never invented, and kept in a file that people can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median

import yaml
from pydantic import TypeAdapter

from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.types import LEAST_SAMPLES, Knob, PowerCurve, PowerPoint, WorkloadClass
from gangplan.yaml_files import read_yaml

NOISE = 0.03
"""The share by which a higher setting may seem slower, or a GPU to draw more than its cap, and count as noise."""


@dataclass(frozen=True, kw_only=True)
class _File:
    curves: tuple[PowerCurve, ...]


_FILE = TypeAdapter(_File)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: the speed of a job, in whatever it counts by, and the watts of each GPU, at one setting.

    `where` is the row or run that it comes from. Speeds are compared only within one `job`.
    """

    workload_class: WorkloadClass
    accelerator: str
    knob: Knob
    setting: int
    speed: float
    watts: float
    measured: date
    job: str = ""
    where: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """What the curve is of."""
        return self.workload_class.value, self.accelerator


def fit_curves(rows: Iterable[Measured], *, least: int = LEAST_SAMPLES) -> tuple[PowerCurve, ...]:
    """Fit a curve for each class and accelerator: medians of speed, beside each job's own without a cap, and of watts.

    Raises
    ------
    InputError
        There are fewer than `least` measurements at a setting, a job was not measured at the highest one, a GPU drew
        more than its cap, or a higher setting was slower by more than noise.
    """
    by_kind = sorted(rows, key=lambda row: row.kind)
    curves = tuple(_fit(list(group), least) for _, group in groupby(by_kind, key=lambda row: row.kind))
    if not curves:
        raise InputError("measurements", "[]", "are empty: measure each class at its caps, and without one")
    return curves


def _fit(rows: Sequence[Measured], least: int) -> PowerCurve:
    first, name = rows[0], f"measurements[{'/'.join(rows[0].kind)}]"
    if other := next((row for row in rows if row.knob is not first.knob), None):
        raise InputError(f"{name}.{other.knob}", other.where, f"is beside {first.knob}: give one curve one of them")
    top = max(row.setting for row in rows)
    own = _speed_by_job(rows, name, top)
    settings = sorted({row.setting for row in rows})
    groups = [[row for row in rows if row.setting == setting] for setting in settings]
    for setting, group in zip(settings, groups, strict=True):
        if len(group) < least:
            remedy = f"are fewer than {least}: measure again, or leave {first.knob} {setting} out"
            raise InputError(f"{name}.{first.knob}[{setting}]", f"{len(group)} samples", remedy)
    speeds = _rising(f"{name}.speed", settings, [median(row.speed / own[row.job] for row in group) for group in groups])
    watts = _rising(f"{name}.watts", settings, [median(row.watts for row in group) for group in groups])
    for setting, drawn in zip(settings, watts, strict=True):
        if first.knob is Knob.CAP and drawn > setting * (1 + NOISE):
            remedy = f"is more than the cap of {setting} W: the cap did not hold while this was measured"
            raise InputError(f"{name}.watts", round(drawn, 1), remedy)
    points = zip(settings, speeds, watts, groups, strict=True)
    return PowerCurve(
        workload_class=first.workload_class,
        accelerator=first.accelerator,
        knob=first.knob,
        measured=max(row.measured for row in rows),
        points=tuple(
            PowerPoint(
                setting=setting,
                speed=1.0 if setting == top else round(min(speed, 1.0), 4),
                watts=round(drawn, 1),
                samples=len(group),
            )
            for setting, speed, drawn, group in points
        ),
    )


def _speed_by_job(rows: Sequence[Measured], name: str, top: int) -> dict[str, float]:
    """Return each job's median speed at the highest setting, which is that of a GPU without a cap."""
    own: dict[str, float] = {}
    for job in dict.fromkeys(row.job for row in rows):
        speeds = [row.speed for row in rows if row.job == job and row.setting == top]
        if not speeds:
            remedy = f"was not measured at {rows[0].knob} {top}, as other jobs were: its speeds are beside nothing"
            raise InputError(f"{name}.job", job, remedy)
        own[job] = median(speeds)
    return own


def _rising(name: str, settings: Sequence[int], values: Sequence[float]) -> list[float]:
    """Level out what falls by no more than noise, and refuse what falls by more."""
    for (low, before), (high, after) in pairwise(zip(settings, values, strict=True)):
        if after < before * (1 - NOISE):
            remedy = f"at {high} is less than {before:.4g} at {low}, by more than noise: measure again"
            raise InputError(name, round(after, 4), remedy)
    level, risen = 0.0, list[float]()
    for value in values:
        level = max(level, value)
        risen.append(level)
    return risen


def read_curves(path: Path) -> tuple[PowerCurve, ...]:
    """Read a file of curves; without one there are none."""
    if not path.exists():
        return ()
    document = read_yaml(path, "power curves")
    return document.read_as(_FILE, "power curves", qualified=False).curves


def write_curves(path: Path, curves: Iterable[PowerCurve]) -> tuple[PowerCurve, ...]:
    """Write curves into a file, in the place of those of the same class and accelerator; return all that it has."""
    kept = {(curve.workload_class, curve.accelerator): curve for curve in (*read_curves(path), *curves)}
    body = {"curves": [_plain(curve) for _, curve in sorted(kept.items())]}
    write_atomic(path, yaml.safe_dump(body, sort_keys=False))
    return read_curves(path)


def _plain(curve: PowerCurve) -> dict[str, object]:
    """Return a curve as a YAML file has it."""
    return {
        "workload_class": curve.workload_class.value,
        "accelerator": curve.accelerator,
        "knob": curve.knob.value,
        "measured": curve.measured,
        "points": [asdict(point) for point in curve.points],
    }
