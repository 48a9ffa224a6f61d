"""The guides tell the truth: every bash and python block of README.md and docs/ is executed, page by page.

Pages that bring in the sample and train on it with the same small settings share one home in which that was executed
once: in their scripts those two lines put its database in place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# Blocks for an environment of their own are executed by that environment's tier; `make` by a person and by CI itself.
ELSEWHERE = {"airflow": "tests/airflow", "kfp": "tests/kfp", "cluster": "tests/cluster", "make": "CI"}
ELSEWHERE |= dict.fromkeys(("kubernetes", "prometheus"), "tests/docs/test_servers.py")
ELSEWHERE |= {"clouds": "tests/execute/cloud"}

SETTINGS = "export GANGPLAN_HORIZON_HOURS=24 GANGPLAN_BACKTEST_ORIGINS=2"
SHARED = {"gangplan ingest sample": "ingested.db", "gangplan train": "trained.db"}
DATABASE = Path(".gangplan") / "mlflow" / "mlflow.db"


def blocks(page: Path) -> list[tuple[str, str, int]]:
    """Return a page's executable blocks: language, text, line. A second word in the fence names who else runs it."""
    found: list[tuple[str, str, int]] = []
    for token in MarkdownIt().parse(page.read_text()):
        words = token.info.split()
        if token.type == "fence" and words and words[0] in ("bash", "python"):
            if len(words) > 1 and words[1] not in ELSEWHERE:
                raise AssertionError(f"{page.name}: a block says {words[1]!r}: use one of {', '.join(ELSEWHERE)}")
            if len(words) == 1:
                found.append((words[0], token.content, token.map[0] + 1 if token.map else 0))
    return found


def script(page: Path) -> str:
    """Put a page's blocks into one shell script, so that later blocks see what earlier ones made."""
    parts = ["set -euo pipefail"]
    for language, text, line in blocks(page):
        parts.append(f"echo '--- {page.name}:{line}' >&2")
        parts.append(text if language == "bash" else f"python - <<'END_OF_PYTHON'\n{text}END_OF_PYTHON")
    return "\n".join(parts)


def from_home(script: str, home: Path) -> str:
    """Let a script take what the shared home has, instead of making it anew."""
    lines = [(line, SHARED.get(line.partition("#")[0].strip())) for line in script.splitlines()]
    return "\n".join(f"cp '{home / file}' {DATABASE}" if file else line for line, file in lines)


def run(script: str, folder: Path) -> None:
    """Paste a script into a shell that stands in that folder."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


def start(folder: Path, template: Path) -> None:
    """Give a folder's home its migrated MLflow database."""
    (folder / DATABASE).parent.mkdir(parents=True)
    shutil.copy(template, folder / DATABASE)


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A folder whose home has the sample and a model trained on it, made once for all workers."""
    folder = mlflow_template.parent.with_name("guides-home")
    with FileLock(f"{folder}.lock"):
        if not (folder / SHARED["gangplan train"]).exists():
            shutil.rmtree(folder, ignore_errors=True)
            start(folder, mlflow_template)
            keep = (f"{line}\ncp {DATABASE} {file}" for line, file in SHARED.items())
            run("\n".join(["set -euo pipefail", SETTINGS, *keep]), folder)
    return folder


SERVING = pytest.mark.present("`gangplan ledger serve` serves others, at the present")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[SERVING] if "gangplan ledger serve" in script(page) else [])
        for page in PAGES
        if blocks(page)
    ],
)
def test_guide_runs(page: Path, tmp_path: Path, mlflow_template: Path, request: pytest.FixtureRequest) -> None:
    """A reader who pastes a page's blocks, in order, into a shell gets no error."""
    pasted = script(page)
    shared = ROOT.parent / "shared"
    if "../shared/data" in pasted and not shared.is_dir():
        pytest.skip(f"{page.name} reads public traces that are not at {shared}")
    if shared.is_dir():
        (tmp_path.parent / "shared").unlink(missing_ok=True)
        (tmp_path.parent / "shared").symlink_to(shared)
    start(tmp_path, mlflow_template)
    run(from_home(pasted, request.getfixturevalue("trained_home")) if SETTINGS in pasted else pasted, tmp_path)
