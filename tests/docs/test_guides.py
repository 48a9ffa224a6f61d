"""The guides tell the truth: every bash and python block of README.md and docs/ is executed, page by page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# Blocks for an environment of their own are executed by that environment's tier; `make` by a person and by CI itself.
ELSEWHERE = {"airflow": "tests/airflow", "kfp": "tests/kfp", "cluster": "tests/cluster", "make": "CI"}


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


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_guide_runs(page: Path, tmp_path: Path, mlflow_template: Path) -> None:
    """A reader who pastes a page's blocks, in order, into a shell gets no error."""
    home = tmp_path / ".gangplan"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    shared = ROOT.parent / "shared"
    if "../shared/data" in script(page) and not shared.is_dir():
        pytest.skip(f"{page.name} reads public traces that are not at {shared}")
    if shared.is_dir():
        (tmp_path.parent / "shared").unlink(missing_ok=True)
        (tmp_path.parent / "shared").symlink_to(shared)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    ran = subprocess.run(
        ["bash", "-c", script(page)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
