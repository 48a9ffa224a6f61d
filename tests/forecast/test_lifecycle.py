"""From training to champion: kills leave nothing half done, hand-made changes are recorded, the shadow comes first."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gangplan import forecast
from gangplan.config import Settings
from gangplan.errors import GateError
from gangplan.forecast import promotion, registry
from gangplan.forecast.promotion import shadow
from gangplan.forecast.registry import audit_log, model_versions, runs
from gangplan.forecast.registry.audit_log import Action, Change
from gangplan.tracking import FORECAST, MODEL, Store
from gangplan.types import Training, Usage

from .conftest import CHAT, END, Trained, a_usage, some_settings, waves

Clock = Callable[[], datetime]

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from gangplan import forecast
    from gangplan.config import Settings
    from gangplan.tracking import Store
    from conftest import CHAT, END, a_usage, waves

    def die(done, total, text):
        if text == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(home=Path("."), horizon_hours=24, backtest_origins=2)
    usage = a_usage({CHAT: waves(300)})
    forecast.retrain(usage, Store(uri=sys.argv[1]), settings=settings, clock=lambda: END, progress=die)
"""
POINTS = ("back-test of 2 origins", "ask the gate", "register the version", "decide", "write the page for reviewers")


def small(home: Path) -> tuple[Usage, Settings]:
    """Telemetry and settings of the smallest training that grows trees."""
    return a_usage({CHAT: waves(300)}), some_settings(home, horizon_hours=24, backtest_origins=2)


def killed_at(store: Store, point: str, folder: Path) -> None:
    """Train in a process of its own, which is killed when it comes to that point."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(KILLED))
    words = [sys.executable, str(script), store.uri, point]
    folders = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    done = subprocess.run(words, env=path, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_killed_again_and_again_a_training_is_taken_up(mlflow_store: Store, tmp_path: Path) -> None:
    """Killed at five points one after the other, it comes to one run, one version, one decision: as if never killed."""
    usage, settings = small(tmp_path)
    for point in POINTS:
        killed_at(mlflow_store, point, tmp_path)
        versions = model_versions.versions(mlflow_store)
        assert len(versions) == (POINTS.index(point) >= POINTS.index("decide"))
        assert all(version.tags["gate"] for version in versions)
    (run,) = mlflow_store.client.search_runs([mlflow_store.experiment(FORECAST)])
    made: list[str] = []
    again = forecast.retrain(
        usage, mlflow_store, settings=settings, clock=lambda: END, progress=lambda *said: made.append(said[2])
    )
    assert not any("level" in text for text in made)  # no tree was grown again
    assert (again.run_id, again.version, again.promoted) == (run.info.run_id, "1", True)
    assert len(forecast.history(mlflow_store)) == 1
    whole = mlflow_store.client.get_run(again.run_id)
    assert (whole.info.status, whole.data.tags[runs.DONE]) == ("FINISHED", "1")
    assert len(whole.outputs.model_outputs) == 1
    points = mlflow_store.client.get_metric_history(again.run_id, "wql_by_day")
    assert len(points) == 1
    assert mlflow_store.client.list_artifacts(again.run_id, "checkpoints") == []
    other = forecast.retrain(usage, mlflow_store, settings=settings, clock=lambda: END)
    assert other.version == "2"
    tags = [mlflow_store.client.get_run(one.run_id).data.tags["sha256.fits"] for one in (again, other)]
    assert tags[0] == tags[1]  # and the same bytes as a training in one go
    file = model_versions.load(mlflow_store, "2")
    assert hashlib.sha256(b"").hexdigest() != tags[0]
    assert file.steering.rows > 0


def test_another_key_or_a_living_process_is_not_taken_up(mlflow_store: Store, tmp_path: Path) -> None:
    """What another training left, or one that is still running, stays as it is."""
    usage, settings = small(tmp_path)
    key = runs.training_key(usage, settings)
    for other in (some_settings(tmp_path, seed=8), some_settings(tmp_path, horizon_hours=72)):
        assert runs.training_key(usage, other) != key
    with (
        runs.training_run(mlflow_store, key, "first", {"kind": "training"}) as first,
        runs.training_run(mlflow_store, key, "second", {"kind": "training"}) as second,
    ):
        assert second != first
    with runs.training_run(mlflow_store, key, "third", {"kind": "training"}) as third:
        assert third in (first, second)  # both ended without a version: the newest is taken up


def test_a_change_that_was_killed_half_way_is_finished(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the alias and its record nothing can get lost: the next look finishes it, under its own name."""
    store = trained_copy.store
    given = {"by": "ada", "why": "better", "at": END}
    change = Change(action=Action.APPROVED, version="1", champion_before="1", **given)
    monkeypatch.setattr(type(store.client), "set_registered_model_alias", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit_log.record_decision(store, Action.APPROVED, "1", **given)
    monkeypatch.undo()
    assert "ada" not in {one.by for one in forecast.history(store)}
    assert forecast.record_manual_changes(store, lambda: END) is None
    assert forecast.history(store)[-1] == change
    assert forecast.record_manual_changes(store, lambda: END) is None
    assert len(forecast.history(store)) == 2


def _interrupted(*_: object) -> None:
    """Stand for a process that ends here."""
    raise KeyboardInterrupt


def another_version(store: Store, **tags: str) -> str:
    """Register the trained model once more, as challenger."""
    first = store.client.get_model_version(MODEL, "1")
    uri = f"models:/{store.client.get_run(str(first.run_id)).outputs.model_outputs[0].model_id}"
    run_id = store.client.create_run(store.experiment(FORECAST)).info.run_id
    version = model_versions.register(store, run_id, uri, {**first.tags, "compared_with": "1", **tags})
    store.client.set_registered_model_alias(MODEL, "challenger", version)
    return version


def test_what_is_done_by_hand_is_recorded_once(trained_copy: Trained, ticking: Clock) -> None:
    """A champion set, or taken away, in MLflow's page gets its place in the history, with the name that was left."""
    store = trained_copy.store
    two = another_version(store)
    store.client.set_model_version_tag(MODEL, two, "gangplan.by", "grace")
    store.client.set_model_version_tag(MODEL, two, "gangplan.why", "looked at the fan")
    store.client.set_registered_model_alias(MODEL, "champion", two)
    found = forecast.record_manual_changes(store, ticking)
    assert found is not None
    assert (found.action, found.version, found.by, found.why, found.champion_before) == (
        "made champion by hand",
        two,
        "grace",
        "looked at the fan",
        "1",
    )
    assert forecast.record_manual_changes(store, ticking) is None
    assert forecast.rollback(store, by="bob", why="worse", clock=ticking).version == "1"
    store.client.delete_registered_model_alias(MODEL, "champion")
    found = forecast.record_manual_changes(store, ticking)
    assert found is not None
    assert (found.action, found.version) == ("taken away by hand", "1")
    assert [one.action for one in forecast.history(store)][1:] == [
        "made champion by hand",
        "rolled back to",
        "taken away by hand",
    ]


def in_shadow(store: Store, days: str) -> str:
    """A challenger that passed the gate and has to stand in the shadow for so long."""
    version = another_version(store, gate="passed", shadow_days=days)
    audit_log.record_decision(store, Action.WAITING, version, by="gate", why="the gate passed", at=END)
    return version


def later(usage: Usage, hours: int) -> Usage:
    """The telemetry as it is some hours on."""
    series = {CHAT: waves(1000 + hours, level=60, seed=1)}
    return a_usage(series, end=usage.end + timedelta(hours=hours))


def test_a_challenger_is_promoted_when_its_days_are_over(trained_copy: Trained, ticking: Clock) -> None:
    """It forecasts beside the champion, cannot be approved before, and is promoted by what came, not before."""
    store, settings = trained_copy.store, trained_copy.settings
    version = in_shadow(store, "1.0")
    given = {"settings": settings, "clock": ticking}
    assert forecast.decide_challenger(store, later(trained_copy.usage, 0), **given) is None
    # Too soon for a second forecast.
    assert forecast.decide_challenger(store, later(trained_copy.usage, 3), **given) is None
    assert len(store.runs(FORECAST, {"kind": "shadow"}, limit=9)) == 1
    found = forecast.standing(store, version, later(trained_copy.usage, 12))
    assert found is not None
    assert (found.days, found.done, found.gap is not None) == (0.5, False, True)
    with pytest.raises(GateError, match="still in its shadow"):
        forecast.approve(store, version, by="ada", why="now", clock=ticking)
    decided = forecast.decide_challenger(store, later(trained_copy.usage, 24), **given)
    assert decided is not None
    assert (decided.action, decided.by, decided.version) == ("promoted", "gate", version)
    assert "in the shadow: 2 forecasts beside the champion, version 1" in decided.why
    assert model_versions.alias(store, "champion") == version


def test_a_challenger_that_is_worse_in_the_shadow_is_rejected(trained_copy: Trained, ticking: Clock) -> None:
    """What the back-test could not know, the shadow shows; nobody has to be asked."""
    store = trained_copy.store
    version = in_shadow(store, "0.5")
    forecast.decide_challenger(store, later(trained_copy.usage, 0), settings=trained_copy.settings, clock=ticking)
    (run,) = store.runs(FORECAST, {"kind": "shadow"})
    spoiled = store.read_table(run.info.run_id, "challenger")
    columns = [name for name in spoiled.columns if name.startswith("q")]
    store.log_table(run.info.run_id, "challenger", spoiled.with_columns(2 * spoiled[name] for name in columns))
    decided = forecast.decide_challenger(
        store, later(trained_copy.usage, 24), settings=trained_copy.settings, clock=ticking
    )
    assert decided is not None
    assert (decided.action, decided.version) == ("rejected", version)
    assert "Worse than the champion" in decided.why
    assert model_versions.alias(store, "champion") == "1"


def test_a_person_is_asked_once_and_only_when_it_is_time(trained_copy: Trained, ticking: Clock) -> None:
    """Where a person decides, nothing is promoted past them; they are asked once the shadow is over, and once only."""
    store = trained_copy.store
    settings = some_settings(trained_copy.settings.home, promotion="person")
    version = in_shadow(store, "0.5")
    forecast.decide_challenger(store, later(trained_copy.usage, 0), settings=settings, clock=ticking)
    assert forecast.open_questions(store) == ()
    assert forecast.decide_challenger(store, later(trained_copy.usage, 12), settings=settings, clock=ticking) is None
    demand = later(trained_copy.usage, 12).demand
    with store.run("gangplan/telemetry", "import", {"kind": "import"}) as run_id:
        store.log_table(run_id, "demand", demand)
    assert forecast.open_questions(store) == (version,)
    assert forecast.open_questions(store) == ()
    assert shadow.standing(store, version) is not None
    assert forecast.approve(store, version, by="ada", why="fine", clock=ticking).aliases == ("champion",)


@pytest.mark.parametrize("order", ["123", "321", "213"])
def test_of_first_trainings_at_once_one_is_the_first_model(order: str, trained_copy: Trained) -> None:
    """Whoever decides, in whatever order: the lowest version is promoted, the others were compared with no champion."""
    store, settings = trained_copy.store, trained_copy.settings
    own = store.client.get_model_version(MODEL, "1").tags["reason"]
    for _ in range(2):
        store.client.delete_model_version_tag(MODEL, another_version(store), "compared_with")
    store.client.delete_registered_model_alias(MODEL, "champion")
    for name in store.client.get_registered_model(MODEL).tags:
        store.client.delete_registered_model_tag(MODEL, name)
    for version in order:
        promotion.decide_after_training(store, version, settings=settings, at=END)
    found = {one.version: one for one in forecast.list_versions(store)}
    assert {number: [one.action for one in version.changes] for number, version in found.items()} == {
        "1": ["promoted"],
        "2": ["refused"],
        "3": ["refused"],
    }
    assert found["1"].aliases == ("champion",)
    assert found["1"].reason == f"first model, promoted by default: gate passed: {own}"
    assert found["3"].reason.startswith("not compared with the champion, version 1: another training made it meanwhile")


def test_two_decisions_at_once_are_both_kept(trained_copy: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process has pending, another one's does not write over; the same decision told twice is one."""
    store, given = trained_copy.store, {"by": "ada", "why": "better", "at": END}
    two = another_version(store)
    monkeypatch.setattr(type(store.client), "set_registered_model_alias", _interrupted)
    for version, by in ((two, "ada"), ("1", "grace")):
        with pytest.raises(KeyboardInterrupt):
            audit_log.record_decision(store, Action.APPROVED, version, **{**given, "by": by})
    monkeypatch.undo()
    forecast.record_manual_changes(store, lambda: END)
    assert {(one.version, one.by) for one in forecast.history(store)[1:]} == {(two, "ada"), ("1", "grace")}
    assert forecast.history(store)[-1].version == model_versions.alias(store, "champion")
    for _ in range(2):
        audit_log.record_decision(store, Action.REFUSED, two, by="gate", why="worse", at=END)
    assert [one.action for one in forecast.history(store)][3:] == ["refused"]


def test_a_trained_model_waits_for_its_shadow_or_a_person(trained_copy: Trained, ticking: Clock) -> None:
    """With the settings, what passes the gate stays challenger and says for what it waits.

    A later one waits behind it; the champion's twin, made of the same telemetry, is no question for a person.
    """
    store = trained_copy.store
    shaded = some_settings(trained_copy.settings.home, shadow_days=2)
    first = forecast.retrain(trained_copy.usage, store, settings=shaded, clock=ticking, because="drift: chat")
    found = forecast.show_version(store, first.version)
    assert (first.promoted, found.aliases, found.because) == (False, ("challenger",), "drift: chat")
    assert "2 days beside the champion come first" in found.changes[-1].why
    asked = some_settings(trained_copy.settings.home, promotion="person")
    second = forecast.retrain(trained_copy.usage, store, settings=asked, clock=ticking)
    change = forecast.show_version(store, second.version).changes[-1]
    assert (change.action, change.why) == (
        "refused",
        "it forecasts as the champion, version 1, does (0.0000% apart): nobody is asked",
    )
    assert model_versions.alias(store, "challenger") == first.version
    assert model_versions.alias(store, "champion") == "1"


def test_who_asks_again_in_one_name_gets_that_training(trained_copy: Trained) -> None:
    """A training that is done is found under the name in which it was asked for, and nothing is trained."""
    store, first = trained_copy.store, trained_copy.training
    store.client.set_tag(first.run_id, registry.ONCE, "kfp/run-1/model")
    assert registry.trained_once(store, "kfp/run-2/model") is None

    def asked() -> Training:
        return forecast.retrain(
            trained_copy.usage, store, settings=trained_copy.settings, once="kfp/run-1/model", clock=lambda: END
        )

    again = asked()
    assert (again.version, again.run_id, again.wql) == (first.version, first.run_id, first.wql)
    assert [found.version for found in forecast.list_versions(store)] == ["1"]
