"""The ledger works with exactly the rights that `gangplan kube manifests` prints; what they lack is said clearly."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gangplan.errors import ForbiddenError
from gangplan.kube.access import rights
from gangplan.kube.api import Api, connect
from gangplan.reserve.kueue.doctor import BAD, GOOD, NOTE, examine
from gangplan.reserve.kueue.jobs import adopt
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import ReservationId, ReservationState
from tests.cluster.conftest import RIGHTS, Space, until
from tests.cluster.objects import a_job
from tests.command import caller


@pytest.fixture
def least(space: Space, queue: str, tmp_path: Path) -> Api:
    """The cluster as our service account sees it, with the printed rights and no others."""
    space.give_printed_rights()
    return connect(kubeconfig=str(space.log_in("gangplan", tmp_path / "kubeconfig")))


def test_all_calls_work_with_the_printed_rights(least: Api, space: Space) -> None:
    """A whole life with each call of the ledger, adoption included."""
    with KueueLedger(least, Place(namespace=space.name, queue="queue"), clock=space.clock) as ledger:
        held = ledger.submit(a_request("a"))
        waiting = ledger.submit(a_request("b"))
        assert held.token is not None
        ledger.renew(held.id, held.token)
        assert waiting.eta is not None
        assert ledger.explain(waiting.id) is not None
        assert ledger.calendar(space.clock(), space.clock() + timedelta(hours=1))
        assert ledger.what_if(a_request("c"))[0] is not None
        assert not [name for name in ledger.nodes() if name.startswith("h100-owned")]
        ledger.release(held.id, held.token)
        assert ledger.wait(waiting.id, timeout=timedelta(seconds=10)).state is ReservationState.GRANTED
        ledger.cancel(waiting.id)
        job = a_job(space.name, "step", pods=1, gpus=8)
        ours = adopt.reserve_for(ledger, a_request("step"), job)
        adopt.start(ledger, ours.id, job)
        ledger.tick()
        assert ledger.compact(space.clock() + timedelta(hours=1)).reservations >= 2


def test_the_doctor_finds_nothing_bad_with_them(least: Api, space: Space) -> None:
    """Versions, rights, the queue and Kueue's settings are looked at; all is well."""
    found = examine(least, Place(namespace=space.name, queue="queue"))
    assert [one for one in found if one.level == BAD] == []
    assert {"Kubernetes", names.GROUP, "rights", "Kueue's settings"} <= {one.what for one in found if one.level == GOOD}


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/api/v1/namespaces/{0}/secrets"),
        ("GET", "/api/v1/namespaces/default/configmaps"),
        ("GET", "/apis/batch/v1/namespaces/{0}/jobs"),
        ("DELETE", "/api/v1/namespaces/{0}/pods/any"),
        ("GET", "/apis/kueue.x-k8s.io/v1beta2/namespaces/default/workloads"),
        ("DELETE", "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/any"),
        ("DELETE", "/apis/kueue.x-k8s.io/v1beta2/namespaces/{0}/localqueues/queue"),
        ("DELETE", "/api/v1/nodes/h100-owned-0"),
        ("DELETE", "/api/v1/namespaces/{0}"),
    ],
)
def test_what_is_outside_them_is_refused_and_said(least: Api, space: Space, verb: str, path: str) -> None:
    """The verb and the object are named, and where to look."""
    if path.endswith("/default/workloads"):
        path = f"{path}/any"
    with pytest.raises(ForbiddenError, match=r"is not allowed: .*gangplan kube doctor"):
        least.call(verb, path.format(space.name))


def test_the_doctor_names_what_is_missing_and_the_remedy(least: Api, space: Space) -> None:
    """With Kueue's own editor role in its place, evictions could not be completed, and nothing be released."""
    path = f"{RIGHTS['Role'].format(space.name)}/gangplan-ledger"
    role = space.api.get(path)
    lacking = {"workloads/status", "configmaps"}
    role["rules"] = [rule for rule in role["rules"] if not lacking & set(rule["resources"])]
    space.api.call("PUT", path, role)
    bad = until(lambda: [one for one in examine(least, Place(namespace=space.name, queue="queue")) if one.level == BAD])
    of_records = [f"right to {verb} configmaps" for verb in ("list", "create", "delete")]
    assert [one.what for one in bad] == ["right to patch workloads/status.kueue.x-k8s.io", *of_records]
    assert {one.remedy for one in bad} == {f"gangplan kube manifests --namespace {space.name} | kubectl apply -f -"}
    ledger = space.ledger()
    ledger.close()
    with pytest.raises(ForbiddenError, match="configmaps"):
        KueueLedger(least, ledger.place, clock=space.clock).get(ReservationId("any"))


def test_after_an_upgrade_with_the_old_role_each_new_right_is_named(
    least: Api, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the doctor's command with the command that gives it, and by the call that is refused; then all is well."""
    path = f"{RIGHTS['Role'].format(space.name)}/gangplan-ledger"
    whole = space.api.get(path)
    old = space.api.get(path)
    old["rules"] = [rule for rule in old["rules"] if not {"configmaps", "pods"} & set(rule["resources"])]
    for rule in old["rules"]:
        if rule["resources"] in (["jobs"], ["jobsets"]):
            rule["verbs"] = ["create"]
    space.api.call("PUT", path, old)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    call = caller(monkeypatch, capsys)
    asked = ("kube", "doctor", "--ledger", f"kueue://-/{space.name}/queue", "--json")
    until(lambda: call(*asked).code == 1)
    told = call(*asked)
    lacking = [one for one in told.json if one["what"].startswith("right to ")]
    verbs = {"configmaps": ("list", "create", "delete"), "jobs.batch": ("get", "delete"), "pods": ("create", "get")}
    named = [f"right to {verb} {of}" for of, each in verbs.items() for verb in each]
    assert [one["what"] for one in lacking if one["level"] == BAD] == named
    assert [one["what"] for one in lacking if one["level"] == NOTE] == ["right to get jobsets.jobset.x-k8s.io"]
    assert "7 things would keep reservations from working: see the remedies" in told.err
    with KueueLedger(least, Place(namespace=space.name, queue="queue"), clock=space.clock) as ledger:
        with pytest.raises(ForbiddenError, match=r"cannot list resource \"configmaps\".*gangplan kube doctor"):
            ledger.submit(a_request("a"))
        assert list(space.api.items(names.workloads(space.name))) == []
        space.api.merge(path, {"rules": whole["rules"]})
        until(lambda: call(*asked).code == 0)
        assert ledger.submit(a_request("a")).state is ReservationState.GRANTED


def test_the_doctor_names_a_queue_that_is_not_there(space: Space, queue: str) -> None:
    """And those that are."""
    bad = [one for one in examine(space.api, Place(namespace=space.name, queue="other")) if one.level == BAD]
    assert "is no LocalQueue: use one of queue" in bad[0].said


def test_the_doctor_names_a_queue_of_multikueue(space: Space) -> None:
    """Hazard 10: it rejects reservations; the finding says which check does it."""
    check = {"metadata": {"name": f"{space.name}-far"}, "spec": {"controllerName": "kueue.x-k8s.io/multikueue"}}
    space.make(f"{names.API}/admissionchecks", {"apiVersion": names.VERSION, "kind": "AdmissionCheck", **check})
    name = space.queue({space.flavor(): 8})
    strategy = {"admissionChecksStrategy": {"admissionChecks": [{"name": f"{space.name}-far"}]}}
    space.api.merge(f"{names.API}/clusterqueues/{name}", {"spec": strategy})
    bad = [one for one in examine(space.api, Place(namespace=space.name, queue="queue")) if one.level == BAD]
    assert [one.what for one in bad] == ["hazard 10"]
    assert "use a queue without it" in bad[0].remedy


def test_every_right_is_one_that_a_call_needs() -> None:
    """The list is short enough to read: nothing may write outside the namespace of the queue."""
    assert {verb for space, _, _, verb in rights() if not space} <= {"get", "list", "watch"}
    assert {verb for space, _, _, verb in rights() if space == "kueue-system"} == {"get"}
