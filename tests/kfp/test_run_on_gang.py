"""`run_on_gang` in a pipeline: it holds the gang, but its own pod uses no slots and may run anywhere."""

from collections.abc import Callable

import pytest
from kfp import dsl
from tests.kfp.specs import WISH, Spec, train

from gangplan.errors import InputError
from gangplan_kfp import on_gang, reserved_gang, run_on_gang
from gangplan_kfp.support import run_job

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": {}}


@dsl.pipeline(name="inner")
def inner(job: dict = JOB):
    """A pipeline that is used as a task."""
    run_on_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, job=job)
    train()


def inside() -> None:
    """Beside a step that uses slots itself."""
    with reserved_gang(**WISH):
        run_on_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, job=JOB)
        train()


def nested() -> None:
    """In a pipeline that is used as a task."""
    with reserved_gang(**WISH):
        inner()


def alone() -> None:
    """With a gang of its own."""
    on_gang(**WISH)(run_on_gang)(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, job=JOB)


@pytest.mark.parametrize("pipeline", [inside, nested, alone])
def test_it_is_held_and_not_sent_to_the_slots(pipeline: Callable[[], None]) -> None:
    """No accelerators, no nodes, and it is not asked on which node it is."""
    task = Spec(pipeline)["run-on-gang"]
    assert task.container["command"][:4] == ["python3", "-m", "gangplan_kfp.held", "--gang"]
    assert task.task["retryPolicy"]["maxRetryCount"] == 2
    assert "resources" not in task.container
    assert task.platform == {}


def test_a_step_that_holds_no_gang_is_refused(home: object, monkeypatch: pytest.MonkeyPatch, ledger_url: str) -> None:
    """With the way to hold one."""
    monkeypatch.delenv("GANGPLAN_RESERVATION", raising=False)
    job = {**JOB, "spec": {"template": {"spec": {"containers": [{"name": "train"}]}}}}
    with pytest.raises(InputError, match=r"holds no gang: use run_on_gang inside `with reserved_gang\(\.\.\.\)`"):
        run_job(job, "", node_label="", ledger=ledger_url, home="")
