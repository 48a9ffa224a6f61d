"""What Airflow knows of the provider, and how a connection becomes a ledger."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import BaseHook, Connection
from tests.airflow.versions import AIRFLOW

import gangplan_airflow
from gangplan.client.attempts import submit
from gangplan.config import present
from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import ReservationState
from gangplan_airflow import get_provider_info
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.connection import shows_password
from gangplan_airflow.hook import GangplanHook, slots


def connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Make a connection known to Airflow."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "gangplan", **fields}))


def test_airflow_finds_the_provider_and_its_connection_type() -> None:
    """The installed distribution is a provider, and Admin > Connections offers the type with its hook."""
    manager = ProvidersManager()
    assert "gangplan" in manager.providers
    hook = manager.hooks["gangplan"]
    assert hook is not None
    assert (hook.connection_type, hook.hook_name) == ("gangplan", "gangplan ledger")
    assert hook.hook_class_name == "gangplan_airflow.hook.GangplanHook"
    assert not [name for name in manager.connection_form_widgets if "gangplan" in name]
    if AIRFLOW >= (3, 2):  # 3.1 shows its plain form
        shown = manager.field_behaviours["gangplan"]
        assert shown["relabeling"] == {"host": "Ledger: a URL, or the host of PostgreSQL", "schema": "Database"}
        assert "never in the URL" in shown["placeholders"]["password"]


def test_the_provider_s_description_is_valid() -> None:
    """Airflow's own schema accepts what the distribution says of itself."""
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize("old", ["3.0.6", "2.11.2"])
def test_an_older_airflow_is_refused_by_name(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an older Airflow is installed, the import says which is needed, and why."""
    monkeypatch.setattr(gangplan_airflow, "version", lambda _: old)
    with pytest.raises(InputError, match=f"apache-airflow: '{old}' is too old for gangplan, which needs Airflow 3.1"):
        gangplan_airflow.refuse_older_airflow()


def test_airflow_s_own_task_has_the_gang() -> None:
    """`airflow.sdk.task.gang` is the provider's, and names what it needs."""
    from airflow.sdk import task

    from gangplan_airflow import gang
    from gangplan_airflow.gangs import gang_task

    assert task.gang is gang_task
    assert callable(gang)
    with pytest.raises(InputError, match=r"task.gang: 'work' needs a gang"):

        @task.gang
        def work() -> None:
            """Do nothing."""


def test_each_entry_point_loads() -> None:
    """The provider and the plugin are where the distribution says."""
    [provider] = [entry for entry in entry_points(group="apache_airflow_provider") if "gangplan" in entry.value]
    assert provider.load()()["connection-types"][0]["connection-type"] == "gangplan"
    [plugin] = entry_points(group="airflow.plugins", name="gangplan")
    assert plugin.load().name == "gangplan"


def test_a_connection_gives_its_hook(ledger_url: str) -> None:
    """`BaseHook.get_hook` of a gangplan connection is ours, and opens the ledger of its extra."""
    hook = BaseHook.get_hook("gangplan_default")
    assert isinstance(hook, GangplanHook)
    assert hook.ledger_url() == ledger_url


def test_a_host_is_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection with a host is a PostgreSQL ledger; what needs quoting in its password is quoted."""
    connection(monkeypatch, "pg", host="db", port=5433, login="me", password="p@ss/word", schema="slots")  # noqa: S106
    assert GangplanHook("pg").ledger_url() == "postgresql+psycopg://me:p%40ss%2Fword@db:5433/slots"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("postgresql+psycopg://db/slots", "postgresql+psycopg://me:p%40ss%2Fword@db/slots"),
        ("postgresql://other:own@db:1/slots", "postgresql://other:own@db:1/slots"),
        ("sqlite:////var/lib/ledger.db", "sqlite:////var/lib/ledger.db"),
        ("kueue://prod/vision/gpus", "kueue://prod/vision/gpus"),
    ],
)
def test_the_host_may_be_a_url(host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed first stands in the first field; login and password complete a URL of PostgreSQL without them."""
    connection(monkeypatch, "given", host=host, login="me", password="p@ss/word")  # noqa: S106
    assert GangplanHook("given").ledger_url() == url


def test_without_a_connection_the_settings_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a default connection nor a url in it: the ledger of gangplan's own settings."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    assert GangplanHook().ledger_url() == f"sqlite:///{tmp_path / 'ledger.db'}"
    connection(monkeypatch, "gangplan_default")
    assert GangplanHook().ledger_url() == f"sqlite:///{tmp_path / 'ledger.db'}"


def test_a_misspelt_connection_is_refused() -> None:
    """Another name than the default's is never silently replaced by another ledger."""
    with pytest.raises(InputError, match="gangplan_conn_id: 'gangplan_prod'"):
        GangplanHook("gangplan_prod").ledger_url()


def test_an_extra_that_is_no_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken extra names the connection, and does not show what may be a secret."""
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps({"conn_type": "gangplan", "extra": "[1]"}))
    said = "connection broken extra" if AIRFLOW >= (3, 2) else "gangplan_conn_id: 'broken'"  # 3.1 gives no such one
    with pytest.raises(InputError, match=said) as error:
        GangplanHook("broken").ledger_url()
    assert "[1]" not in str(error.value)


def test_the_form_s_button_tells_good_from_bad(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test says kind, capacity, plan, tenants and reservations, or what is wrong."""
    good, message = GangplanHook().test_connection()
    assert good
    assert message == (
        "a ledger on SQLite answers: h100-owned 8 of 8 GPUs free; plan test-plan; tenants with rules: none, all share "
        "alike; 0 gangs hold slots, 0 wait."
    )
    connection(monkeypatch, "odd", extra={"url": "ftp://nowhere"})
    good, message = GangplanHook("odd").test_connection()
    assert not good
    assert "is no ledger's URL" in message


def test_a_password_that_all_can_read_is_named(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL with a password works, but the form's button says where a password belongs."""
    assert not shows_password(Connection(conn_id="c", host="postgresql://me@db/slots", password="secret"))  # noqa: S106
    assert shows_password(Connection(conn_id="c", host="postgresql://me:secret@db/slots"))
    assert shows_password(Connection(conn_id="c", extra='{"url": "postgresql://me:secret@db/slots"}'))


def test_the_hook_holds_what_the_task_returned(ledger: Ledger) -> None:
    """`GangplanHook().hold(slots)` keeps the lease of an XCom, and refuses one that was given back, with the remedy."""
    row = submit(ledger, a_request(), present())
    with GangplanHook().hold(slots(row, None)) as held:
        held.check()
    assert ledger.get(row.id).state is ReservationState.GRANTED
    ledger.cancel(row.id)
    with pytest.raises(AirflowFailException, match="clear the reserve task"), GangplanHook().hold(slots(row, None)):
        pytest.fail("the block ran without its slots")
