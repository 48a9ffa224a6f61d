"""A level that shifted and held is followed: the past counts at the new level, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from gangplan.forecast import model
from gangplan.forecast.anchor import anchored
from gangplan.forecast.metrics import pinball
from gangplan.forecast.model import DemandModel
from gangplan.forecast.panel import Panel, from_usage
from gangplan.tables import EVENTS
from gangplan.types import QUANTILES

from .conftest import CHAT, TRAIN, a_usage, waves

HOURS, AHEAD = 900, 72
ALL = np.arange(2)


def world(factor: float, days: int) -> Panel:
    """Two series, of which the first stands at a new level since so many days before hour 828."""
    rows = {CHAT: waves(HOURS, level=40, seed=1), TRAIN: waves(HOURS, level=30, seed=2)}
    rows[CHAT][HOURS - AHEAD - 24 * days :] *= factor
    return from_usage(a_usage(rows))


@pytest.fixture(scope="module")
def fitted() -> DemandModel:
    """A model of both, without a shift."""
    return model.fit(world(1.0, 4).until(HOURS - AHEAD), AHEAD, seed=7)


def loss(made: np.ndarray, came: np.ndarray) -> float:
    """The mean pinball loss."""
    return float(pinball(made.reshape(-1, len(QUANTILES)), came.ravel()).mean())


@pytest.mark.parametrize(("factor", "days"), [(2.2, 3), (2.2, 5), (0.4, 4)])
def test_new_level_is_followed(fitted: DemandModel, factor: float, days: int) -> None:
    """From three days on the forecast loses less than that of the past as it was; the other series stays."""
    panel = world(factor, days)
    known, row = panel.until(HOURS - AHEAD), panel.keys.index(CHAT)
    with_it, without = fitted.quantiles(known, AHEAD)[0], fitted.average(known, ALL, AHEAD)
    came = panel.values[row, -AHEAD:]
    assert loss(with_it[row], came) < 0.95 * loss(without[row], came)
    assert np.array_equal(with_it[1 - row], np.maximum(0, np.sort(without[1 - row], axis=1)))


def test_what_is_young_small_or_explained_stays() -> None:
    """Two days of it, a change by a fifth, and one that an event explains are left alone."""
    for panel in (world(2.2, 2), world(1.2, 6), world(1.0, 6)):
        known = panel.until(HOURS - AHEAD)
        there, rows = anchored(known, ALL)
        assert rows.size == 0
        assert np.array_equal(there.values, known.values)
    known = world(2.2, 5).until(HOURS - AHEAD)
    assert anchored(known, ALL)[1].tolist() == [known.keys.index(CHAT)]
    event = {"start": known.end - 24 * 6 * (known.end - known.until(HOURS - AHEAD - 1).end), "kind": "campaign"}
    events = pl.DataFrame([{**event, "end": known.end, "tenant": None}], schema=EVENTS)
    assert anchored(replace(known, events=events), ALL)[1].size == 0
