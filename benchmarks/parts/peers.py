"""CBC and SCIP on a plan's whole-number program, from an MPS file, on one thread."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import highspy

from gangplan.plan.model.algebra import compile_model
from gangplan.plan.model.program import build
from gangplan.plan.problem.problem import Problem
from gangplan.plan.solver.highs import Engine


def write_mps(problem: Problem, path: Path) -> Path:
    """Write a problem's whole model as an MPS file."""
    engine = Engine(compile_model(build(problem)), relaxed=False, seed=problem.settings.seed)
    assert engine._highs.writeModel(str(path)) != highspy.HighsStatus.kError
    return path


def cbc(path: Path, gap: float, limit_s: float) -> tuple[float, float]:
    """Seconds and the plan's price (infinite when there is none) of CBC at that gap."""
    import cbcbox

    command = [cbcbox.cbc_bin_path(), str(path), "-threads", "1", "-ratioGap", str(gap), "-sec", str(limit_s)]
    begin = time.perf_counter()
    said = subprocess.run([*command, "-solve", "-quit"], capture_output=True, text=True, check=False).stdout
    took = time.perf_counter() - begin
    found = re.search(r"Objective value:\s+(\S+)", said)
    return took, float(found.group(1)) if found else float("inf")


def scip(path: Path, gap: float, limit_s: float) -> tuple[float, float]:
    """Seconds and the plan's price (infinite when there is none) of SCIP at that gap."""
    from pyscipopt import Model

    model = Model()
    model.hideOutput()
    model.readProblem(str(path))
    model.setParam("limits/gap", gap)
    model.setParam("limits/time", limit_s)
    begin = time.perf_counter()
    model.optimize()
    took = time.perf_counter() - begin
    return took, model.getObjVal() if model.getNSols() else float("inf")
