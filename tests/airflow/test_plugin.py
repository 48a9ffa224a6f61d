"""The plugin in Airflow's own web server, and the drop-in file as Airflow's loader takes it."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.airflow.versions import find_path_from_directory

from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.reserve import open_ledger
from gangplan.testing import a_calendar, a_request

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
HOME = Path(os.environ["GANGPLAN_HOME"])


@pytest.fixture(scope="module")
def web(metadata: None) -> Generator[TestClient]:
    """Airflow's web server, with the plugin in it."""
    from airflow.api_fastapi.app import create_app

    with TestClient(create_app(apps="core"), base_url="http://testserver") as client:
        yield client


@pytest.fixture(scope="module")
def bearer(web: TestClient) -> dict[str, str]:
    """The header of a user who has logged in."""
    passwords = json.loads((Path(os.environ["AIRFLOW_HOME"]) / "passwords.json").read_text())
    answer = web.post("/auth/token", json={"username": "viewer", "password": passwords["viewer"]})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.mark.parametrize("path", ["/gangplan/", "/gangplan/report"])
def test_nothing_is_shown_without_a_user(web: TestClient, path: str) -> None:
    """Who is not logged in gets no page of the plugin."""
    assert web.get(path).status_code in (401, 404)
    assert web.get("/gangplan/reservations").status_code == 401
    assert web.get("/gangplan/reservations", headers={"Authorization": "Bearer made.up.token"}).status_code in (
        401,
        403,
    )


def test_a_user_sees_the_reservations(web: TestClient, bearer: dict[str, str]) -> None:
    """A user who is logged in gets the ledger's reservations, without the tokens by which their holders act."""
    with open_ledger(f"sqlite:///{HOME / 'ledger.db'}") as ledger:
        ledger.publish(a_calendar(start=floor_hour(present())))
        held = ledger.submit(a_request("a run"))
    answer = web.get("/gangplan/reservations", params={"state": "granted"}, headers=bearer)
    assert answer.status_code == 200
    assert [(row["id"], row["key"], row["gpus"]) for row in answer.json()] == [(held.id, "a run", 8)]
    assert "token" not in answer.json()[0]
    assert web.get("/gangplan/reservations", params={"state": "gone"}, headers=bearer).status_code == 422


def test_the_plugin_stands_in_the_navigation_once(web: TestClient, bearer: dict[str, str]) -> None:
    """Airflow lists the plugin, with its view in the navigation, and without an import error."""
    plugins = web.get("/api/v2/plugins", headers=bearer).json()["plugins"]
    [plugin] = [row for row in plugins if row["name"] == "gangplan"]
    [view] = plugin["external_views"]
    assert (view["destination"], view["href"]) == ("nav", "/gangplan/")
    assert web.get("/api/v2/plugins/importErrors", headers=bearer).json()["import_errors"] == []


def test_the_loader_executes_the_drop_in_alone(tmp_path: Path) -> None:
    """.airflowignore keeps the loader, which runs every file as a module of its own, off the package's files."""
    folder = tmp_path / "plugins"
    shutil.copytree(PLUGINS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    found = sorted(Path(file).name for file in find_path_from_directory(str(folder), ".airflowignore", "glob"))
    assert [name for name in found if name.endswith(".py")] == ["gangplan_plugin.py"]


def test_the_drop_in_stands_back_for_the_installed_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file defines the plugin only where no distribution brings it, for Airflow refuses one that comes twice."""
    assert "GangplanPlugin" not in runpy.run_path(str(PLUGINS / "gangplan_plugin.py"))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    assert "GangplanPlugin" in runpy.run_path(str(PLUGINS / "gangplan_plugin.py"))
    assert len((PLUGINS / "gangplan_plugin.py").read_text().splitlines()) < 30
