"""What was measured under caps: from a CSV file, or from MLflow's runs with their system metrics."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gangplan.clock import parse_utc
from gangplan.errors import InputError, UnavailableError
from gangplan.execute.green.curves import Measured
from gangplan.extras import needs_extras
from gangplan.types import Knob, WorkloadClass, require_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_WATTS = re.compile(r"system/gpu_\d+_power_usage_watts")
CLASS, ACCELERATOR, JOB = "gangplan.workload_class", "gangplan.accelerator", "gangplan.job"
SETTINGS = {Knob.CAP: "gangplan.power_cap_watts", Knob.CLOCK: "gangplan.gpu_clock_mhz"}
"""The tags by which a run says what it is, and under which cap or locked clock it ran."""


def measured_from_csv(path: Path, *, measured: date | None = None) -> list[Measured]:
    """Read a table: workload_class, accelerator, cap_watts or clock_mhz, speed, watts, and if there are, measured, job.

    `measured` is the day of rows that do not say theirs.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [_row(row, path, line, measured) for line, row in enumerate(csv.DictReader(file), start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("measurements", path, f"cannot be read ({error}): give a CSV file in UTF-8") from None


def _row(row: Mapping[str, str], path: Path, line: int, measured: date | None) -> Measured:
    """Read a row; a mistake names file, line, field and value."""
    where = f"{path.name} line {line}"
    try:
        return _measured({name: (text or "").strip() for name, text in row.items() if name}, where, measured)
    except InputError as error:
        raise InputError(error.field, error.value, f"{error.remedy} ({where})") from None


def _measured(row: Mapping[str, str], where: str, measured: date | None) -> Measured:
    """Read a row's fields."""
    knobs = [knob for knob in Knob if row.get(knob)]
    if len(knobs) != 1:
        raise InputError("cap_watts", row.get(Knob.CAP, ""), "give one of cap_watts and clock_mhz")
    setting = _number(knobs[0], row[knobs[0]])
    if setting != int(setting):
        raise InputError(knobs[0], setting, "must be a whole number")
    day = parse_utc("measured", row["measured"]).date() if "T" in row.get("measured", "") else _day(row, measured)
    return Measured(
        workload_class=_class(row.get("workload_class", "")),
        accelerator=require_name("accelerator", row.get("accelerator", "")),
        knob=knobs[0],
        setting=int(setting),
        speed=_number("speed", row.get("speed", "")),
        watts=_number("watts", row.get("watts", "")),
        measured=day,
        job=row.get("job", ""),
        where=where,
    )


def _class(text: str) -> WorkloadClass:
    if text not in list(WorkloadClass):
        raise InputError.unknown("workload_class", text, "no workload class", WorkloadClass)
    return WorkloadClass(text)


def _number(field: str, text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise InputError(field, text, "must be a number greater than 0")
    return value


def _day(row: Mapping[str, str], measured: date | None) -> date:
    text = row.get("measured", "")
    if not text and measured is not None:
        return measured
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError("measured", text, "is no day: give it like 2026-03-01, or --measured for all rows") from None


def measured_from_mlflow(uri: str, metric: str) -> list[Measured]:
    """Read runs that say their class, accelerator and cap by tags, and logged system metrics and a metric of speed.

    Each value of `metric` is a measurement. Its watts are the mean of the run's GPUs over the whole run.
    """
    with needs_extras():
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    try:
        client = MlflowClient(tracking_uri=uri)
        rows = [row for run in _runs(client) for row in _of_run(client, run, metric)]
    except MlflowException as error:
        raise UnavailableError(f"MLflow: cannot be read: {error}") from None
    if not rows:
        tags = ", ".join((CLASS, ACCELERATOR, SETTINGS[Knob.CAP]))
        raise InputError("metric", metric, f"is in no run that has the tags {tags} and system metrics of its GPUs")
    return rows


def _runs(client: MlflowClient) -> Iterator[Run]:
    """Yield the runs that say a workload class."""
    experiments: Any = client.search_experiments()  # pyright: ignore[reportUnknownMemberType]
    spaces = [experiment.experiment_id for experiment in experiments]
    token: Any = None
    while True:
        page: Any = client.search_runs(spaces, f"tags.`{CLASS}` != ''", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _of_run(client: MlflowClient, run: Run, metric: str) -> Iterator[Measured]:
    """Yield a run's measurements; none where it lacks the metric or the power of its GPUs."""
    watts = [
        fmean(point.value for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
        if _WATTS.fullmatch(name)
    ]
    if metric not in run.data.metrics or not watts:
        return
    tags: dict[str, Any] = run.data.tags
    row = {
        "workload_class": tags.get(CLASS, ""),
        "accelerator": tags.get(ACCELERATOR, ""),
        "job": tags.get(JOB, ""),
        "watts": str(fmean(watts)),
        "measured": datetime.fromtimestamp(run.info.start_time / 1000, UTC).date().isoformat(),
        **{knob.value: tags.get(tag, "") for knob, tag in SETTINGS.items()},
    }
    where = f"run {run.info.run_id}"
    for point in client.get_metric_history(run.info.run_id, metric):
        try:
            yield _measured({**row, "speed": str(point.value)}, where, None)
        except InputError as error:
            raise InputError(error.field, error.value, f"{error.remedy} ({where}: see its tags)") from None
