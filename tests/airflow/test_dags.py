"""The DAG files, and those in the documents, as Airflow reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from tests.airflow.versions import AIRFLOW, DagBag

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
HEAVY = ("polars", "mlflow", "lightgbm", "pyomo", "highspy", "numpy")

EXPECTED = {
    "gangplan_ingest": ["draft_fleet", "ingest"],
    "gangplan_retrain": ["train"],
    "gangplan_drift": ["ask_for_training", "judge"],
    "gangplan_watch": ["needs_a_person", "settle"],
    "gangplan_sweep": ["give_back"],
    "gangplan_review": ["ask", "carry_out", "challenger", "heard"],
    "gangplan_plan": ["plan"],
    "gangplan_plan_review": ["ask", "carry_out", "heard", "waiting"],
    "gangplan_apply": ["apply"],
    "gangplan_feedback": ["learn", "report"],
    "example_reserved_job": ["release", "reserve", "train"],
    "example_reserved_training": [
        *("first.release", "first.reserve", "first.train"),
        *("second.release", "second.reserve", "second.train"),
    ],
}


@pytest.fixture(scope="module")
def bag(metadata: None) -> DagBag:
    """What Airflow makes of dags/."""
    return DagBag(str(ROOT / "dags"))


def test_the_dags_import_without_error_or_warning(bag: DagBag) -> None:
    """Every file of dags/ gives the DAG of its name, without an import error and without a warning."""
    assert bag.import_errors == {}
    assert ours(bag) == []
    assert {name: sorted(dag.task_ids) for name, dag in bag.dags.items()} == EXPECTED


def ours(bag: DagBag) -> list[str]:
    """The warnings that our files cause; those that Airflow's own files cause in Airflow are its own."""
    return [text for texts in bag.captured_warnings.values() for text in texts if "site-packages/airflow/" not in text]


def test_no_dag_catches_up(bag: DagBag) -> None:
    """A DAG that was off for a week does not run a week's worth of times."""
    assert [dag.dag_id for dag in bag.dags.values() if dag.catchup] == []


def test_a_release_is_a_teardown_of_its_reservation(bag: DagBag) -> None:
    """In the example, each release is a teardown of its reservation, and gives back what that returned."""
    tasks = bag.dags["example_reserved_training"].task_dict
    for group in ("first", "second"):
        reserve, release = tasks[f"{group}.reserve"], tasks[f"{group}.release"]
        assert reserve.is_setup
        assert release.is_teardown
        assert release.slots == reserve.output  # type: ignore[attr-defined]


def test_reading_the_dags_imports_no_heavy_library() -> None:
    """A DAG processor reads the files every half minute: the models and the solver are imported by tasks alone."""
    program = (
        "import sys; from tests.airflow.versions import DagBag; "
        f"bag = DagBag({str(ROOT / 'dags')!r}); assert len(bag.dags) == {len(EXPECTED)}, bag.import_errors; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def documented() -> list[tuple[str, str]]:
    """The DAGs that README.md and docs/ show, by page and line."""
    found: list[tuple[str, str]] = []
    for page in PAGES:
        for token in MarkdownIt().parse(page.read_text()):
            if token.type == "fence" and token.info.split() == ["python", "airflow"]:
                found.append((f"{page.stem}-{token.map[0] + 1 if token.map else 0}", token.content))
    return found


@pytest.mark.parametrize("text", [text for _, text in documented()], ids=[name for name, _ in documented()])
def test_a_documented_dag_is_one(text: str, tmp_path: Path, metadata: None) -> None:
    """A DAG that a reader pastes into a file is read by Airflow without error or warning."""
    if AIRFLOW < (3, 2) and "AsyncCallback" in text:
        pytest.skip("Airflow 3.1 has the names of deadlines elsewhere, as the page says")
    if "airflow.providers.cncf" in text:
        pytest.importorskip("airflow.providers.cncf.kubernetes", reason="the provider of Kubernetes is not installed")
    (tmp_path / "pasted.py").write_text(text)
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    assert ours(bag) == []
    assert len(bag.dags) == 1
