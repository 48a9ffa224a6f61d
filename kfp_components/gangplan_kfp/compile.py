"""Compile the components and pipelines: `python -m gangplan_kfp.compile [FOLDER]`, same source, same bytes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kfp.compiler import Compiler

import gangplan_kfp
from gangplan_kfp.pipelines import reserved_training

FOLDER = Path("kfp_components/compiled")

# A component's own file is a pipeline of one step, which KFP would cache; our steps have effects.
CACHED = """\
        cachingOptions:
          enableCache: true
"""
UNCACHED = """\
        cachingOptions: {}
"""

COMPILED: dict[str, Any] = {
    "reserve_gang": gangplan_kfp.reserve_gang,
    "wait_for_gang": gangplan_kfp.wait_for_gang,
    "release_gang": gangplan_kfp.release_gang,
    "train_demand_model": gangplan_kfp.train_demand_model,
    "plan_capacity": gangplan_kfp.plan_capacity,
    "apply_plan": gangplan_kfp.apply_plan,
    "reserved_training": reserved_training,
}


def compile_all(folder: Path) -> list[Path]:
    """Write one YAML file for each component and pipeline and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.yaml" for name in COMPILED]
    for path, thing in zip(paths, COMPILED.values(), strict=True):
        Compiler().compile(thing, str(path))
        path.write_text(path.read_text().replace(CACHED, UNCACHED))
    return paths


if __name__ == "__main__":
    for written in compile_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(written)
