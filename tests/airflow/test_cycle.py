"""The DAGs of the cycle as a platform gets them: shipped, switched on, quiet until there is something to do."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.asset import AssetEvent
from airflow.sdk import DAG, Asset
from airflow.utils.session import create_session
from tests.airflow.versions import DagBag

from gangplan.clock import HOUR, floor_hour
from gangplan.config import load_settings, present
from gangplan.tracking import open_store
from gangplan_airflow.compat import AirflowSkipException
from gangplan_airflow.cycle import deadline
from gangplan_airflow.hook import GangplanHook

ROOT = Path(__file__).resolve().parents[2]
CYCLE = sorted(path.stem for path in (ROOT / "dags" / "cycle").glob("*.py"))

pytestmark = pytest.mark.usefixtures("metadata")


@pytest.fixture(scope="module")
def dags(metadata: None) -> dict[str, DAG]:
    """The DAGs of the cycle, in the folder of this Airflow."""
    bag = DagBag(str(ROOT / "tests" / "airflow" / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture
def home(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, where nothing was ever imported."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The setting `telemetry`: a file of thirty hours of demand until now."""
    end = floor_hour(present())
    rows = [f"{(end - back * HOUR).isoformat()},chat,latency,h100,{back % 5}" for back in range(30, 0, -1)]
    file = tmp_path / "demand.csv"
    file.write_text("\n".join(["hour,tenant,workload_class,accelerator,gpus", *rows]) + "\n")
    monkeypatch.setenv("GANGPLAN_TELEMETRY", str(file))
    return file


def states(dag: DAG) -> dict[str, str]:
    """Run a DAG and return its tasks' states."""
    return {row.task_id: str(row.state) for row in dag.test().get_task_instances()}


def ingest(dag: DAG, until: datetime) -> dict[str, Any]:
    """Call the import as a backfill of the interval that ends then would."""
    call: Any = dag.task_dict["ingest"].python_callable  # type: ignore[attr-defined]
    run = SimpleNamespace(run_type="backfill", data_interval_end=until)
    return call(params={"source": "", "until": "", "replay": False}, dag_run=run, outlet_events=OutletEvents())


class OutletEvents:
    """What Airflow hands a task for the events of its outlets; in 3.1 an asset is no key of a dict."""

    def __getitem__(self, asset: Asset) -> SimpleNamespace:
        """Return the event of an asset."""
        return SimpleNamespace(asset=asset)


@pytest.mark.parametrize("name", [name for name in CYCLE if not name.endswith(("review", "sweep"))])
def test_on_the_first_day_nothing_is_done_and_nothing_fails(name: str, dags: dict[str, DAG], home: Path) -> None:
    """Without a source, telemetry, a model or a plan, a DAG that runs by itself skips its tasks and writes nothing."""
    assert set(states(dags[name]).values()) == {"skipped"}
    assert not (home / "mlflow").exists()


def test_why_nothing_is_done_is_said(dags: dict[str, DAG], home: Path, source: Path) -> None:
    """A skipped task names what is missing and what brings it; with telemetry, the next need is named."""
    plan: Any = dags["gangplan_plan"].task_dict["plan"].python_callable  # type: ignore[attr-defined]
    with pytest.raises(AirflowSkipException, match="nothing to do: there is no telemetry yet: the import brings it"):
        plan()
    assert states(dags["gangplan_ingest"]) == {"ingest": "success", "draft_fleet": "skipped"}
    with pytest.raises(AirflowSkipException, match="there is no demand model yet: the training makes it"):
        plan()
    train: Any = dags["gangplan_retrain"].task_dict["train"].python_callable  # type: ignore[attr-defined]
    with pytest.raises(AirflowSkipException, match="there are 30 hours of telemetry yet, and a training needs 48"):
        train()


def test_an_asset_s_event_carries_the_run_s_figures(dags: dict[str, DAG], home: Path, source: Path) -> None:
    """Who is triggered by new telemetry reads from the event which import it was, how much, and how old."""
    assert states(dags["gangplan_ingest"])["ingest"] == "success"
    with create_session() as session:
        event = session.query(AssetEvent).order_by(AssetEvent.id.desc()).first()
        assert event is not None
        extra, asset = dict(event.extra), event.asset.name
    assert asset == "gangplan_telemetry"
    assert (extra["rows"], extra["rejected_count"]) == (30, 0)
    assert open_store(load_settings()).client.get_run(extra["run_id"]).info.status == "FINISHED"


def test_a_backfill_brings_what_is_missing_and_no_more(dags: dict[str, DAG], home: Path, source: Path) -> None:
    """An interval whose hours are missing is imported; those that are there already are skipped, in words."""
    dag, now = dags["gangplan_ingest"], present()
    assert ingest(dag, now - 5 * HOUR)["rows"] == 30
    with pytest.raises(AirflowSkipException, match="are there already"):
        ingest(dag, now - 3 * HOUR)


def test_the_connection_names_the_ledger_of_the_whole_cycle(home: Path, ledger_url: str) -> None:
    """Plans are published, compared and reported on the ledger of the operators, whatever the settings name."""
    assert load_settings().ledger_url != ledger_url
    assert GangplanHook().settings().ledger_url == ledger_url
    for path in (ROOT / "dags" / "cycle").glob("*.py"):
        assert "load_settings" not in path.read_text(), path.name


def test_a_late_run_is_said_where_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The section [gangplan] of Airflow's configuration gives the DAGs their deadline; by default there is none."""
    assert deadline() is None
    monkeypatch.setenv("AIRFLOW__GANGPLAN__DEADLINE_MINUTES", "90")
    alert = deadline()
    assert alert is not None
    assert alert.interval == timedelta(minutes=90)
    assert alert.callback.path == "gangplan_airflow.cycle.stages.say_late"
    bag = DagBag(str(ROOT / "dags" / "cycle" / "gangplan_plan.py"))
    assert bag.dags["gangplan_plan"].deadline


@pytest.mark.parametrize(("given", "more"), [({}, 0), ({"examples": True}, 2)])
def test_the_bundle_gives_the_dags_that_ship(
    given: dict[str, bool], more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of configuration switches the DAGs on, and the examples only where they are asked for."""
    bundle = {"name": "gangplan", "classpath": "gangplan_airflow.cycle.GangplanDagBundle", "kwargs": given}
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    path = DagBundlesManager().get_bundle("gangplan").path
    assert len(DagBag(str(path)).dags) == len(CYCLE) + more


def test_thin_files_are_read_as_the_dags(tmp_path: Path) -> None:
    """What `gangplan airflow dags` writes gives the same DAGs, each in its thin file."""
    command = [sys.executable, "-m", "gangplan", "airflow", "dags", "--into", str(tmp_path), "--examples"]
    subprocess.run(command, check=True, capture_output=True)
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    assert len(bag.dags) == len(CYCLE) + 2
    assert {Path(dag.fileloc) for dag in bag.dags.values()} == set(tmp_path.glob("*.py"))
