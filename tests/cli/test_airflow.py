"""`gangplan airflow dags`: thin files for the DAGs that ship, and nobody's own file written over without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import Call, caller

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process."""
    return caller(monkeypatch, capsys)


def shipped(*folders: str) -> set[str]:
    """The names of the DAGs' files in those folders of `dags/`."""
    return {path.name for folder in folders for path in (ROOT / "dags" / folder).glob("*.py")}


def test_each_dag_gets_a_thin_file(call: Call, tmp_path: Path) -> None:
    """The folder is made; each file imports its DAG from the installed gangplan; examples come when asked for."""
    folder = tmp_path / "dags" / "gangplan"
    assert call("airflow", "dags", "--into", str(folder)).code == 0
    assert {path.name for path in folder.iterdir()} == shipped("cycle")
    assert "from gangplan_airflow.dags.cycle.gangplan_plan import the_dag" in (folder / "gangplan_plan.py").read_text()
    assert call("airflow", "dags", "--into", str(folder), "--examples").code == 0
    assert {path.name for path in folder.iterdir()} == shipped("cycle", "examples")


def test_a_changed_file_is_kept(call: Call, tmp_path: Path) -> None:
    """A file that somebody changed is named, and nothing is written; with --force it is written over."""
    assert call("airflow", "dags", "--into", str(tmp_path)).code == 0
    mine, gone = tmp_path / "gangplan_plan.py", tmp_path / "gangplan_apply.py"
    mine.write_text("# mine\n")
    gone.unlink()
    said = call("airflow", "dags", "--into", str(tmp_path))
    assert said.code == 2
    assert f"into: '{mine}' is not as gangplan writes it" in said.err
    assert not gone.exists()
    assert call("airflow", "dags", "--into", str(tmp_path), "--force").code == 0
    assert "the_dag" in mine.read_text()
    assert gone.exists()
