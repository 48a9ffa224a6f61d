# pyright: reportUnknownMemberType=false
"""LightGBM's trees as text: a fit is read in no time; LightGBM is imported, and reads them, when they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gangplan.forecast.libraries import importing
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
"""How all our trees are grown, whatever they forecast: small, and alike each time."""


@dataclass(frozen=True)
class Trees:
    """One grown model, in LightGBM's own text."""

    text: str

    @cached_property
    def booster(self) -> Booster:
        """The trees as LightGBM has them."""
        with importing():
            from lightgbm import Booster

        return Booster(model_str=self.text)

    def predict(self, columns: NDArray[np.floating[Any]]) -> Floats:
        """Ask the trees, row by row, on one thread."""
        return np.asarray(self.booster.predict(columns, num_threads=1), dtype=np.float64)
