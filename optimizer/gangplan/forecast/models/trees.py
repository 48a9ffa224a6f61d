"""LightGBM's trees as text, and how they are grown; nothing else in the forecast calls LightGBM.

Text is read back in no time. LightGBM takes a second to import, so it is imported when trees are grown or asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gangplan.forecast.libraries import uncollected
from gangplan.forecast.series import Floats

if TYPE_CHECKING:
    from lightgbm import Booster

TREES: dict[str, object] = {
    "objective": "quantile",
    "num_leaves": 5,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
"""How quantile trees are grown, whatever they forecast: small, and with one seed always alike."""

LEAST_ROWS = 400
"""Fewer rows are not learned from: twice TREES' `min_data_in_leaf`."""

ROUNDS = 60


@dataclass(frozen=True)
class Trees:
    """One grown model, in LightGBM's own text."""

    text: str

    @cached_property
    def booster(self) -> Booster:
        """The trees as LightGBM has them."""
        with uncollected():
            from lightgbm import Booster

        return Booster(model_str=self.text)

    def predict(self, columns: NDArray[np.floating[Any]]) -> Floats:
        """Ask the trees, row by row, on one thread."""
        return np.asarray(self.booster.predict(columns, num_threads=1), dtype=np.float64)

    def gains(self) -> dict[str, float]:
        """Return how much loss each feature took away, by its name."""
        names = [str(name) for name in self.booster.feature_name()]
        gains = np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)
        return dict(zip(names, gains.tolist(), strict=True))


def grower(
    columns: NDArray[Any],
    target: Floats,
    params: dict[str, object],
    *,
    names: list[str] | None = None,
    weight: Floats | None = None,
) -> Callable[[dict[str, object], int], Trees]:
    """Bin a data set (rows x columns) once; return what grows trees on it, given more parameters and the rounds."""
    import lightgbm as lgb

    data = lgb.Dataset(columns, target, weight=weight, feature_name=names or "auto", params=params).construct()

    def grow(more: dict[str, object], rounds: int) -> Trees:
        grown = lgb.train({**params, **more}, data, rounds)  # pyright: ignore[reportUnknownMemberType]
        return Trees(grown.model_to_string())

    return grow
