"""A model version as one JSON file: the fit that steers, and the fit that was back-tested."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gangplan.forecast.models.demand import DemandModel
from gangplan.forecast.models.survival import Hazard
from gangplan.forecast.models.theta import Theta
from gangplan.forecast.models.trees import Trees
from gangplan.forecast.series import Key, Shift


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Two fits of one recipe: `steering` on all data, `tested` on what lay before the first origin of the back-test.

    The tested one is kept so that a later challenger can be compared with it on the same days without a leak.
    """

    steering: DemandModel
    tested: DemandModel


def bundle_bytes(bundle: Bundle) -> bytes:
    """Write both fits as JSON; the same fits give the same bytes."""
    body = {"steering": _to_dict(bundle.steering), "tested": _to_dict(bundle.tested)}
    return json.dumps(body, sort_keys=True).encode()


def read_bundle(path: Path) -> Bundle:
    """Read a file of what `bundle_bytes` returns."""
    body = json.loads(path.read_text())
    return Bundle(steering=_from_dict(body["steering"]), tested=_from_dict(body["tested"]))


def write_model(path: Path, model: DemandModel) -> None:
    """Write one fit as text."""
    path.write_text(json.dumps(_to_dict(model), sort_keys=True))


def read_model(path: Path) -> DemandModel:
    """Read what `write_model` wrote."""
    return _from_dict(json.loads(path.read_text()))


def _to_dict(model: DemandModel) -> dict[str, object]:
    hazard = model.hazard
    trees = hazard and hazard.trees
    return {
        "trees": [tree.text for tree in model.trees],
        "kinds": list(model.kinds),
        "fitted_until": model.fitted_until,
        "hazard": hazard and {"rates": hazard.rates.tolist(), "trees": trees and trees.text, "names": hazard.names},
        "gains": [[*key, gain] for key, gain in sorted(model.gains.items())],
        "thetas": [[*key, asdict(theta)] for key, theta in sorted(model.thetas.items())],
        "rows": model.rows,
        "shifts": [[*key, shift.since.isoformat(), shift.factor] for key, shift in sorted(model.shifts.items())],
        "anchor": None if model.anchor is None else _to_dict(model.anchor),
    }


def _from_dict(body: dict[str, Any]) -> DemandModel:
    return DemandModel(
        trees=tuple(Trees(text) for text in body["trees"]),
        kinds=tuple(body["kinds"]),
        fitted_until=body["fitted_until"],
        hazard=None if body["hazard"] is None else _hazard_from_dict(body["hazard"]),
        # Registered versions may be older than `gains`, or name Theta models without parameters: both are left out.
        gains={_key(row): row[3] for row in body.get("gains", [])},
        thetas={_key(row): Theta(**row[3]) for row in body["thetas"] if not isinstance(row[3], str)},
        rows=body["rows"],
        shifts={
            _key(row): Shift(since=datetime.fromisoformat(row[3]), factor=row[4]) for row in body.get("shifts", [])
        },
        anchor=_from_dict(body["anchor"]) if body.get("anchor") else None,
    )


def _key(row: list[Any]) -> Key:
    tenant, workload, accelerator = row[:3]
    return tenant, workload, accelerator


def _hazard_from_dict(body: dict[str, Any]) -> Hazard:
    tenants, classes, accelerators = (tuple(names) for names in body["names"])
    trees = None if body["trees"] is None else Trees(body["trees"])
    return Hazard(rates=np.array(body["rates"]), trees=trees, names=(tenants, classes, accelerators))
