"""Settings and fleet files: what wins, and what is refused by field, value and remedy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gangplan.clock import system_clock
from gangplan.config import load_settings, present, read_fleet, write_atomic, write_fleet
from gangplan.errors import InputError
from gangplan.testing import NOW
from gangplan.types import Fleet, Pool, PoolKind

POOL = "{name: p, accelerator: h100, gpus_per_node: 8, kind: owned, price_per_node_hour: 2.5, max_nodes: 3}"


def test_environment_wins_over_file_and_call_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value given in the call wins over GANGPLAN_*, which wins over gangplan.yaml, which wins over the default."""
    (tmp_path / "gangplan.yaml").write_text("seed: 1\nscenarios: 4\nmip_gap: 0.02\n")
    monkeypatch.setenv("GANGPLAN_SEED", "2")
    monkeypatch.setenv("GANGPLAN_SCENARIOS", "5")
    settings = load_settings(home=tmp_path, seed=3)
    assert (settings.seed, settings.scenarios, settings.mip_gap, settings.horizon_hours) == (3, 5, 0.02, 168)


def test_stores_default_to_the_home_folder(tmp_path: Path) -> None:
    """Nothing outside the home folder is used unless it was asked for."""
    settings = load_settings(home=tmp_path)
    assert settings.ledger_url == f"sqlite:///{tmp_path}/ledger.db"
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert settings.fleet_file == tmp_path / "fleet.yaml"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("horizon_hours: 3", "horizon_hours"),
        ("horizon_hours: soon", "horizon_hours"),
        ("mip_gap: 1.5", "mip_gap"),
        ("budget: -1", "budget"),
        ("scenarios: 0", "scenarios"),
        ("hoirzon: 3", "hoirzon"),
        ("seed: [", "gangplan.yaml"),
    ],
)
def test_wrong_setting_is_named(text: str, field: str, tmp_path: Path) -> None:
    """A wrong or unknown setting is refused by its name."""
    (tmp_path / "gangplan.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings(home=tmp_path)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_now_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands at `now`, given in the call, the environment or the file; an empty one is none."""
    assert load_settings(home=tmp_path).clock() == present() == NOW
    assert load_settings(home=tmp_path, now="2026-01-01T00:00:00Z").clock() == datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("GANGPLAN_NOW", "")
    assert load_settings(home=tmp_path).clock is system_clock
    monkeypatch.delenv("GANGPLAN_NOW")
    (tmp_path / "gangplan.yaml").write_text("now: 2025-12-31T12:00:00Z\n")
    assert load_settings(home=tmp_path).clock() == datetime(2025, 12, 31, 12, tzinfo=UTC)


def test_now_is_refused_where_others_meet(tmp_path: Path) -> None:
    """A shared ledger's leases may not end by a moment that somebody tries out; nor may a moment lack its zone."""
    with pytest.raises(InputError, match=r"now: .* cannot be given to a ledger on Kueue or PostgreSQL"):
        load_settings(home=tmp_path, now="2026-01-01T00:00:00Z", ledger="postgresql://me@host/ledger")
    with pytest.raises(InputError, match="now: '2026-01-01T00:00:00' is not a UTC time"):
        load_settings(home=tmp_path, now="2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", "fleet"),
        ("pools: []", "pools"),
        ("pools: [3]", "pools.0"),
        ("pols: []", "pools"),
        (f"pools: [{POOL.replace('owned', 'ownd')}]", "pools.0.kind"),
        (f"pools: [{POOL.replace('2.5', '-1')}]", "pools[p].price_per_node_hour"),
        (f"pools: [{POOL.replace('max_nodes', 'max_node')}]", "pools.0.max_nodes"),
        (f"pools: [{POOL}]\nnodes: {{q: 1}}", "pool"),
        (f"pools: [{POOL}]\nnodes: {{p: -1}}", "nodes[p]"),
        ("pools: [", "fleet"),
    ],
)
def test_wrong_fleet_is_named(text: str, field: str, tmp_path: Path) -> None:
    """A wrong fleet file is refused by the field that is wrong."""
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_fleet(file)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_missing_fleet_says_how_to_make_one(tmp_path: Path) -> None:
    """A fleet file that is not there names the command that writes one."""
    with pytest.raises(InputError, match="gangplan init"):
        read_fleet(tmp_path / "fleet.yaml")


def test_fleet_survives_its_file(tmp_path: Path) -> None:
    """A fleet that is written and read back is the same."""
    pool = Pool(name="p", accelerator="h100", gpus_per_node=8, kind=PoolKind.SPOT, price_per_node_hour=2.5, max_nodes=3)
    fleet = Fleet(pools=(pool,), nodes={"p": 2})
    write_fleet(tmp_path / "fleet.yaml", fleet)
    assert read_fleet(tmp_path / "fleet.yaml") == fleet


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails half-way leaves the file as it was."""
    file = tmp_path / "a.yaml"
    write_atomic(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "new \ud800")
    assert file.read_text() == "old"
