"""The manifests that gangplan prints."""

from __future__ import annotations

from gangplan.kube import executor_manifests, executor_rights, job_rights, manifests


def test_the_controller_has_its_own_account_and_all_roles_of_it() -> None:
    """Beside what a ledger needs, in any namespace; pipelines' pods, with the other account, may carry nothing out."""
    made = manifests("vision", controller=True)
    kinds = [one["kind"] for one in made]
    assert kinds.count("Deployment") == 1
    assert kinds.count("ServiceAccount") == 2
    assert {one["metadata"].get("namespace", "vision") for one in made} == {"vision", "kueue-system"}
    bound = {one["roleRef"]["name"]: one["subjects"][0]["name"] for one in made if one["kind"].endswith("Binding")}
    assert {role: account for role, account in bound.items() if role.startswith("gangplan-executor")} == dict.fromkeys(
        (f"gangplan-executor{part}" for part in ("", "-serving", "-requests", "-devices")), "gangplan-controller"
    )
    assert len({(one["kind"], one["metadata"]["name"]) for one in made}) == len(made)


def test_the_roles_of_executors_are_those_that_their_code_names() -> None:
    """So that the doctor and the manifests say the same."""
    roles = {one["metadata"]["name"]: one for one in manifests(controller=True) if one["kind"] == "ClusterRole"}
    ours, theirs = executor_manifests("vision")[1], executor_manifests("vision")[0]
    assert theirs == roles["gangplan-executor"]
    assert (ours["metadata"]["name"], ours["subjects"][0]["name"]) == ("gangplan-executor-vision", "gangplan")
    assert ("kueue.x-k8s.io", "clusterqueues", "patch") in executor_rights()


def test_the_role_of_steps_that_run_jobs_is_added_to_the_account_of_pipelines() -> None:
    """It may write nothing but Jobs, and only in the one namespace."""
    added = [one for one in manifests("vision", jobs=True) if one not in manifests("vision")]
    assert [(one["kind"], one["metadata"]["name"], one["metadata"]["namespace"]) for one in added] == [
        ("Role", "gangplan-jobs", "vision"),
        ("RoleBinding", "gangplan-jobs", "vision"),
    ]
    assert added[1]["subjects"] == [{"kind": "ServiceAccount", "name": "gangplan", "namespace": "vision"}]
    written = {resource for _, resource, verb in job_rights() if verb not in ("get", "list")}
    assert written == {"jobs", "jobsets", "trainjobs"}
