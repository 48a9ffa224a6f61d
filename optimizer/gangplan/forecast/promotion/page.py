"""The page that a reviewer reads before a model steers spending: one HTML file that needs no other.

It is made of what the training's run keeps and of the registry as it is now, so it can be written again at any time.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from mlflow.exceptions import MlflowException

from gangplan.config import write_atomic
from gangplan.errors import NotFoundError
from gangplan.forecast.evaluation import PICTURES, TIERS, Gap, gap, gaps, places, quality, side_by_side
from gangplan.forecast.promotion import review, shadow
from gangplan.pages import templates
from gangplan.tracking import MODEL, Store
from gangplan.types import SERIES

MOST_SERIES = 20
_AHEAD = {"1": "hours 1 to 6", "2": "rest of the first day", "3": "second and third day", "4": "later days"}
_CLOCK = {"0": "0 to 6 h UTC", "1": "6 to 12 h UTC", "2": "12 to 18 h UTC", "3": "18 to 24 h UTC"}
_WEEK = {"false": "Monday to Friday", "true": "Saturday and Sunday"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A version beside a rival: the rival's name, all rows together, and groups of rows by heading."""

    rival: str
    whole: Gap
    groups: Mapping[str, Sequence[Gap]]

    @property
    def better(self) -> str:
        """Where it is better by more than luck."""
        return places([gap for group in self.groups.values() for gap in group], worse=False)

    @property
    def worse(self) -> str:
        """Where it is worse by more than luck."""
        return places([gap for group in self.groups.values() for gap in group], worse=True)


def write_page(path: Path, store: Store, version: str) -> Path:
    """Write the page of a version, completely or not at all, and return its path.

    Raises
    ------
    NotFoundError
        When there is no such version, or its run has no back-test (it was registered by hand).
    """
    write_atomic(path, render(store, version))
    return path


def log_page(store: Store, version: str) -> None:
    """Log the page to the version's run as `review.html`, where MLflow's own page shows it."""
    run_id = str(store.client.get_model_version(MODEL, version).run_id)
    store.client.log_text(run_id, render(store, version), "review.html")


def render(store: Store, version: str) -> str:
    """Return the page's text."""
    shown = review.show_version(store, version)
    table = store.read_table(shown.run_id, "backtest")
    main, naive = _comparisons(store, shown, table)
    run = store.client.get_run(shown.run_id)
    template = templates(Path(__file__).parent).get_template("page.html.j2")
    return template.render(
        version=shown,
        main=main,
        naive=naive,
        checks=json.loads(_text(store, shown.run_id, "gate.json")),
        errors=errors(table),
        shadow=shadow.standing(store, shown.version),
        pictures=_pictures(store, shown.run_id),
        changes=shown.changes,
        span=(table["origin"].min(), table["hour"].max(), table["origin"].n_unique()),
        params=run.data.params,
        tags=run.data.tags,
    )


def headline(store: Store, version: str) -> str:
    """Return the page's first words: how the version did beside the champion, or else beside seasonal naive."""
    shown = review.show_version(store, version)
    main, _ = _comparisons(store, shown, store.read_table(shown.run_id, "backtest"))
    return main.whole.headline(main.rival)


def _comparisons(store: Store, shown: review.ModelVersion, table: pl.DataFrame) -> tuple[Comparison, Comparison]:
    """Return the comparison that counts, with the champion where there is one, and that with seasonal naive."""
    naive = compared(table, store.read_table(shown.run_id, "backtest_naive"), "repeating last week")
    return _with_champion(store, shown, table) or naive, naive


def compared(mine: pl.DataFrame, other: pl.DataFrame, rival: str) -> Comparison:
    """Compare two back-tests as a whole, and by size, distance, hour, week, tenant and series."""
    rows = side_by_side(mine, other)
    step, hour = pl.col("step"), pl.col("hour").dt.hour()
    ahead = pl.when(step <= 6).then(1).when(step <= 24).then(2).when(step <= 72).then(3).otherwise(4)
    weekend = (pl.col("hour").dt.weekday() >= 6).cast(pl.String)
    series = pl.concat_str(SERIES, separator=" / ")
    groups = {
        "By size of series": gaps(rows, pl.col("tier"), TIERS),
        "By how far ahead": gaps(rows, ahead.cast(pl.String), _AHEAD),
        "By hour of the day": gaps(rows, (hour // 6).cast(pl.String), _CLOCK),
        "By day of the week": gaps(rows, weekend, _WEEK),
        "By tenant": gaps(rows, pl.col("tenant"))[:MOST_SERIES],
        f"By series (the {MOST_SERIES} largest at most)": gaps(rows, series)[:MOST_SERIES],
    }
    return Comparison(rival=rival, whole=gap("all series", rows, float(rows["gpus"].sum())), groups=groups)


def errors(table: pl.DataFrame) -> dict[str, float]:
    """Return what the loss means in GPUs: how far the median of all series' sum was off, and how often bands held."""
    hours = table.drop_nulls("gpus").group_by("origin", "hour").agg(pl.col("q0.5", "gpus").sum())
    off, demand = hours.select((pl.col("q0.5") - pl.col("gpus")).abs().mean(), pl.col("gpus").mean()).row(0)
    measured = quality(table)
    return {
        "off": off or 0.0,
        "demand": demand or 0.0,
        "coverage_80": measured.coverage_80,
        "above_95": 1 - measured.below_95,
    }


def _with_champion(store: Store, shown: review.ModelVersion, table: pl.DataFrame) -> Comparison | None:
    """Compare with the champion of the time of training, where both can be asked about days that neither had seen."""
    if shown.compared_with is None:
        return None
    try:
        theirs = store.read_table(shown.run_id, "backtest_champion")
    except NotFoundError:  # the champion had seen all tested days
        return None
    return compared(table, theirs, f"the champion, version {shown.compared_with}")


def _text(store: Store, run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(store.client.download_artifacts(run_id, name, folder)).read_text()
        except (MlflowException, OSError) as error:
            raise NotFoundError(f"run {run_id}: no {name}: {error}: train again with `gangplan train`") from error


def _pictures(store: Store, run_id: str) -> list[tuple[str, str]]:
    """Return the training's pictures with their captions, ready to be put into the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(store.client.download_artifacts(run_id, "plots", folder))
        files = {caption: path / f"{name}.png" for name, caption in PICTURES.items()}
        shown = {caption: file.read_bytes() for caption, file in files.items() if file.exists()}
    return [(caption, base64.b64encode(picture).decode()) for caption, picture in shown.items()]
