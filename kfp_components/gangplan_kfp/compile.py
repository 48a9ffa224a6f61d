"""Compile the components and pipelines: `python -m gangplan_kfp.compile [FOLDER]`, same source, same bytes.

The bytes do not depend on the version of KFP's SDK.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kfp.compiler import Compiler
from kfp.dsl.base_component import BaseComponent

import gangplan_kfp

FOLDER = Path("kfp_components/compiled")

OLDEST_SDK = "kfp-2.14.0"
"""What the files say that made them: they are the same from each SDK since then."""

# A component's own file is a pipeline of one step, which KFP would cache; our steps have effects.
CACHED = """\
        cachingOptions:
          enableCache: true
"""
UNCACHED = """\
        cachingOptions: {}
"""

_FACE = {name: getattr(gangplan_kfp, name) for name in dir(gangplan_kfp)}
COMPILED: dict[str, Any] = {name: thing for name, thing in _FACE.items() if isinstance(thing, BaseComponent)}
"""Each component and each pipeline that the package's face has, by its name."""


def compile_all(folder: Path, names: Iterable[str] = tuple(COMPILED)) -> list[Path]:
    """Write one YAML file for each component and pipeline, or for those named, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.yaml" for name in names]
    for path in paths:
        Compiler().compile(COMPILED[path.stem], str(path))
        text = re.sub(r"^sdkVersion: .*$", f"sdkVersion: {OLDEST_SDK}", path.read_text(), flags=re.MULTILINE)
        path.write_text(text.replace(CACHED, UNCACHED))
    return paths


if __name__ == "__main__":
    for written in compile_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(written)
