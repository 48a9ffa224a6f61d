"""The pages' code for KFP does what they say: each page is one script that compiles and runs its pipelines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from tests.kfp.world import write_demand

from gangplan import forecast, plan
from gangplan.config import load_settings
from gangplan.reserve import Ledger
from gangplan.tracking import open_store
from gangplan.types import ReservationState

ROOT = Path(__file__).resolve().parents[2]

DRIVER = """
import sys
from gangplan_kfp.pipelines.training import reserved_training
from kfp.compiler import Compiler
import page
for name, thing in vars(page).items():
    if isinstance(thing, type(reserved_training)):
        Compiler().compile(thing, f"{name}.yaml")
"""


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's blocks of that language for the KFP environment."""
    tokens = MarkdownIt().parse(page.read_text())
    return [token.content for token in tokens if token.type == "fence" and token.info.split() == [language, "kfp"]]


CYCLE = ROOT / "docs" / "kfp-cycle.md"
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if blocks(page, "python")]
PAGES.remove(CYCLE)


def call(*command: str, folder: Path) -> str:
    """Run a command in a folder with this environment's tools, and return what it printed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_compiles_and_runs(page: Path, ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    """A reader's pipeline reserves before its step and releases after it, in the YAML and in a local run."""
    (tmp_path / "page.py").write_text("\n".join(blocks(page, "python")))
    call(sys.executable, "-c", DRIVER, folder=tmp_path)
    for block in blocks(page, "bash"):
        call("bash", "-euo", "pipefail", "-c", block, folder=tmp_path)
    compiled = list(tmp_path.glob("*.yaml"))
    assert compiled
    for path in compiled:
        names = next(yaml.safe_load_all(path.read_text()))["components"]
        assert {"comp-reserve-gang", "comp-release-gang"} <= set(names)
    if "local.init" in (tmp_path / "page.py").read_text():
        with ledger() as book:
            assert [found.state for found in book.list()] == [ReservationState.RELEASED]


def test_the_cycles_page_runs_from_nothing(home: Path, mlflow_template: Path, tmp_path: Path) -> None:
    """Block by block: a home, both pipelines on the reader's telemetry, what they left, a pipeline of the reader's."""
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    write_demand(tmp_path / "demand.csv")
    (run, own), (init, look) = blocks(CYCLE, "python"), blocks(CYCLE, "bash")
    call("bash", "-euo", "pipefail", "-c", init, folder=tmp_path)
    log = call(sys.executable, "-c", run, folder=tmp_path)
    assert "Task 'apply-plan' finished with status SUCCESS" in re.sub(r"\x1b\[\d+m", "", log)
    call("bash", "-euo", "pipefail", "-c", look, folder=tmp_path)
    store = open_store(load_settings(home=home))
    assert [one.aliases for one in forecast.list_versions(store)] == [("champion",)]
    assert [one["published"] for one in plan.list_plans(store)] == ["yes"]
    compiled = f"{own}\nfrom kfp.compiler import Compiler\nCompiler().compile(learn, 'learn.yaml')"
    call(sys.executable, "-c", compiled, folder=tmp_path)
    assert "secretName: gangplan" in (tmp_path / "learn.yaml").read_text()


def test_the_ten_lines_are_ten() -> None:
    """Adding a reservation to a pipeline takes ten lines of code, the pipeline itself included."""
    first = blocks(ROOT / "docs" / "kfp.md", "python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
