"""The commands `gangplan kube ...`: what gangplan needs on a cluster, and steps that run on reservations."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here
from gangplan.clock import DURATION, parse_span
from gangplan.config import fleet_text
from gangplan.errors import GangplanError, InputError, UnsupportedError
from gangplan.types import GangRequest, PodSet

if TYPE_CHECKING:
    from gangplan.reserve import KueueLedger

kube_app = typer.Typer(
    help="A cluster: what gangplan needs on it, and steps that run on reservations.", no_args_is_help=True
)

Ledger = Annotated[
    str, typer.Option("--ledger", help="kueue://<context>/<namespace>/<LocalQueue>; default: the settings'.")
]
Context = Annotated[str, typer.Option(help="The kubeconfig's context; default: the current one.")]
Manifest = Annotated[Path, typer.Argument(help="A Job, JobSet or Pods in YAML; - reads from standard input.")]


@kube_app.command("manifests", epilog="Example:  gangplan kube manifests --namespace vision | kubectl apply -f -")
def print_manifests(
    namespace: Annotated[str, typer.Option(help="The namespace of the LocalQueue.")] = "gangplan",
    executor: Annotated[bool, typer.Option("--executor", help="With the role by which plans are carried out.")] = False,
    controller: Annotated[bool, typer.Option("--controller", help="With the controller and its own roles.")] = False,
    jobs: Annotated[bool, typer.Option("--jobs", help="With the role of steps that run Jobs on their gang.")] = False,
) -> None:
    """Print the namespace, service account and least-privilege roles that gangplan needs, as YAML."""
    from gangplan.kube import executor_manifests, manifests

    more = executor_manifests(namespace) if executor else []
    yaml.safe_dump_all([*manifests(namespace, controller=controller, jobs=jobs), *more], sys.stdout, sort_keys=False)


@kube_app.command("layout", epilog="Example:  gangplan kube layout --tenant vision | kubectl apply --server-side -f -")
def print_layout(
    tenant: Annotated[list[str], typer.Option(help="A tenant's namespace, which gets a queue; more than once.")],
    cohort: Annotated[str, typer.Option(help="The Cohort that has the capacity of all pools.")] = "gangplan",
    label: Annotated[str, typer.Option(help="The label of nodes that names their pool.")] = "gangplan.io/pool",
) -> None:
    """Print the quotas of the fleet file's pools as Kueue's objects, with 0 slots: plans then raise and lower them."""
    from gangplan.config import read_fleet
    from gangplan.execute import layout_of

    objects = layout_of(read_fleet(settings_here().fleet_file), tenant, cohort=cohort, label=label)
    yaml.safe_dump_all(objects, sys.stdout, sort_keys=False)


@kube_app.command("queue-check", epilog="Example:  gangplan kube queue-check | kubectl apply -f -")
def print_queue_check(
    name: Annotated[str, typer.Option(help="Its name, by which ClusterQueues list it.")] = "gangplan-planned",
) -> None:
    """Print the admission check by which Kueue asks for nodes, and the plan answers when they come, as YAML."""
    from gangplan import execute

    yaml.safe_dump_all(execute.queue_check(name), sys.stdout, sort_keys=False)


@kube_app.command("doctor", epilog="Example:  gangplan kube doctor --ledger kueue://-/vision/gangplan")
def doctor(ledger: Ledger = "", as_json: AsJson = False) -> None:
    """Look for what would keep reservations from working; exit code 1 where something would, each with its remedy."""
    from gangplan.kube import connect
    from gangplan.reserve import BAD, examine, parse_url

    context, place = parse_url(ledger or settings_here().ledger_url)
    findings = examine(connect(context), place)
    columns = {"": "level", "what": "what", "how it is": "said", "what helps": "remedy"}
    emit(as_json, [asdict(finding) for finding in findings], lambda rows: screen.listing("Cluster", rows, columns))
    bad = sum(finding.level == BAD for finding in findings)
    if bad:
        raise GangplanError(f"kube: {bad} things would keep reservations from working: see the remedies")


@kube_app.command("run", epilog="Example:  gangplan kube run train.yaml --key nightly --tenant vision --duration 2h")
def run(
    manifest: Manifest,
    key: Annotated[str, typer.Option(help="Request key: the same key is the same reservation.")],
    tenant: Annotated[str, typer.Option(help="Whose it is.")],
    duration: Annotated[str, typer.Option(help=f"How long it may run at most, {DURATION}.")],
    accelerator: Annotated[
        list[str] | None, typer.Option(help="Which, the preferred first; default: the queue's.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 100,
    preemptible: Annotated[bool, typer.Option(help="Others may take its slots.")] = False,
    wait: Annotated[str, typer.Option(help=f"Wait for the slots so long, {DURATION}.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Reserve exactly the pods of a Job, JobSet or several Pods, wait for the slots, and start them there."""
    from gangplan import reserve

    body = _read(manifest)
    with _kueue() as ledger:
        wanted = accelerator or sorted(
            {name for flavor in ledger.view().flavors.values() for name in flavor.accelerators}
        )
        request = GangRequest(
            request_key=key,
            tenant=tenant,
            pod_sets=(PodSet(count=1, gpus_per_pod=1),),  # those of the manifest replace it
            accelerators=tuple(wanted),
            duration=parse_span("--duration", duration),
            priority=priority,
            preemptible=preemptible,
        )
        held = reserve.reserve_for(ledger, request, body, settings_here().attempt)
        held = ledger.wait(held.id, timeout=parse_span("--wait", wait))
        started = reserve.start(ledger, held.id, body)
    name = body["metadata"].get("name") or started["metadata"]["name"]
    summary = {"id": held.id, "state": held.state, "manifest": name, "kind": body["kind"]}
    emit(as_json, summary, lambda _: f"{body['kind']} {name} runs on reservation {held.id}")


@kube_app.command("hand-out", epilog="Example:  gangplan kube hand-out nightly --json")
def hand_out(key: Annotated[str, typer.Argument(help="Request key.")], as_json: AsJson = False) -> None:
    """Print what a step needs to run on a reservation: labels, node selector, tolerations, exact pod templates."""
    from gangplan import reserve

    with _kueue() as ledger:
        summary = asdict(reserve.hand_out(ledger, ledger.find(key).id))
    emit(as_json, summary, lambda _: yaml.safe_dump(summary, sort_keys=False))


@kube_app.command("fleet", epilog="Example:  gangplan kube fleet --context my-context > .gangplan/fleet.yaml")
def fleet(context: Context = "") -> None:
    """Print the fleet file of the nodes with accelerators, a pool for each pool label; its prices are 0."""
    from gangplan.kube import connect, fleet_of, read_nodes

    print(fleet_text(fleet_of(read_nodes(connect(context)))), end="")


@kube_app.command("usage", epilog="Example:  gangplan kube usage --json")
def usage(context: Context = "", as_json: AsJson = False) -> None:
    """Show who runs and waits with how many accelerators now, and how long what ended had run."""
    from gangplan.kube import connect, read_pods, usage_of

    rows = [asdict(use) for use in usage_of(read_pods(connect(context)))]
    columns = {name: name for name in ("tenant", "resource", "running", "waiting")}
    columns |= {"pods ended": "ended", "their hours": "hours"}
    emit(as_json, rows, lambda rows: screen.listing("Accelerators", rows, columns))


def _kueue() -> KueueLedger:
    """Open the settings' ledger, which must be on Kueue."""
    from gangplan.reserve import KueueLedger

    ledger = open_ledger_here()
    if not isinstance(ledger, KueueLedger):
        ledger.close()
        raise UnsupportedError(
            "kube: the ledger is not on Kueue: set GANGPLAN_LEDGER to kueue://context/namespace/queue"
        )
    return ledger


def _read(path: Path) -> dict[str, Any]:
    """Read a manifest; several objects in it become a List."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        documents: list[Any] = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, yaml.YAMLError) as error:
        raise InputError("manifest", path, f"cannot be read ({error}): give a Job, JobSet or Pods in YAML") from None
    kinds = [document.get("kind") if hasattr(document, "get") else None for document in documents]
    objects: list[Any] = documents[0].get("items") or [] if kinds == ["List"] else documents
    if not objects or not all(type(item) is dict and "spec" in item and "metadata" in item for item in objects):
        raise InputError("manifest", path, "is no Kubernetes object: give one Job or JobSet, or Pods, in YAML")
    if len(objects) == 1:
        return dict(objects[0])
    name = objects[0]["metadata"].get("name", "")
    return {"kind": "List", "metadata": {"name": f"{name} and {len(objects) - 1} more"}, "items": objects}
