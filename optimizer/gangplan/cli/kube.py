"""`gangplan kube`: what gangplan needs on a cluster, whether it is there, and steps that run on reservations."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import RenderableType

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here
from gangplan.clock import DURATION, parse_span
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
) -> None:
    """Print the namespace, service account and least-privilege roles that gangplan needs, as YAML."""
    from gangplan.kube import manifests

    yaml.safe_dump_all(manifests(namespace), sys.stdout, sort_keys=False)


@kube_app.command("doctor", epilog="Example:  gangplan kube doctor --ledger kueue://-/vision/gangplan")
def doctor(ledger: Ledger = "", as_json: AsJson = False) -> None:
    """Look for what would keep reservations from working; exit code 1 where something would, each with its remedy."""
    from gangplan.kube import connect
    from gangplan.reserve import BAD, examine, parse_url

    context, place = parse_url(ledger or settings_here().ledger_url)
    found = examine(connect(context), place)
    emit(as_json, [asdict(one) for one in found], _findings)
    bad = sum(one.level == BAD for one in found)
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
        wanted = accelerator or sorted({n for f in ledger.view().flavors.values() for n in f.accelerators})
        request = GangRequest(
            request_key=key,
            tenant=tenant,
            pod_sets=(PodSet(count=1, gpus_per_pod=1),),  # the manifest's own take its place
            accelerators=tuple(wanted),
            duration=parse_span("--duration", duration),
            priority=priority,
            preemptible=preemptible,
        )
        held = reserve.reserve_for(ledger, request, body)
        held = ledger.wait(held.id, timeout=parse_span("--wait", wait))
        started = reserve.start(ledger, held.id, body)
    name = body["metadata"].get("name") or started["metadata"]["name"]
    said = {"id": held.id, "state": held.state, "manifest": name, "kind": body["kind"]}
    emit(as_json, said, lambda said: f"{said['kind']} {said['manifest']} runs on reservation {said['id']}")


@kube_app.command("hand-out", epilog="Example:  gangplan kube hand-out nightly --json")
def hand_out(key: Annotated[str, typer.Argument(help="Request key.")], as_json: AsJson = False) -> None:
    """Print what a step needs to run on a reservation: labels, node selector, tolerations, exact pod templates."""
    from gangplan import reserve

    with _kueue() as ledger:
        said = asdict(reserve.hand_out(ledger, ledger.find(key).id))
    emit(as_json, said, lambda said: yaml.safe_dump(said, sort_keys=False))


@kube_app.command("fleet", epilog="Example:  gangplan kube fleet --context my-context > .gangplan/fleet.yaml")
def fleet(context: Context = "") -> None:
    """Print the fleet file of the nodes with accelerators, a pool for each pool label; its prices are 0."""
    from gangplan.kube import connect, fleet_of, read_nodes

    found = fleet_of(read_nodes(connect(context)))
    pools = [{**vars(pool), "kind": pool.kind.value} for pool in found.pools]
    yaml.safe_dump({"pools": pools, "nodes": dict(found.nodes)}, sys.stdout, sort_keys=False)


@kube_app.command("usage", epilog="Example:  gangplan kube usage --json")
def usage(context: Context = "", as_json: AsJson = False) -> None:
    """Show who runs and waits with how many accelerators now, and how long what ended had run."""
    from gangplan.kube import connect, read_pods, usage_of

    said = [asdict(one) for one in usage_of(read_pods(connect(context)))]
    emit(as_json, said, _usage)


def _usage(said: list[dict[str, Any]]) -> RenderableType:
    """Show one line for each tenant and resource."""
    rows = [
        (one["tenant"], one["resource"], one["running"], one["waiting"], one["ended"], one["hours"]) for one in said
    ]
    return screen.table("Accelerators", ("tenant", "resource", "running", "waiting", "pods ended", "their hours"), rows)


def _kueue() -> KueueLedger:
    """Open the settings' ledger, which must be one on Kueue."""
    from gangplan.reserve import KueueLedger

    ledger = open_ledger_here()
    if not isinstance(ledger, KueueLedger):
        ledger.close()
        raise UnsupportedError(
            "kube: the ledger is not on Kueue: set GANGPLAN_LEDGER to kueue://context/namespace/queue"
        )
    return ledger


def _read(path: Path) -> dict[str, Any]:
    """Read one manifest; several are a List."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        found: list[Any] = [one for one in yaml.safe_load_all(text) if one is not None]
    except (OSError, yaml.YAMLError) as error:
        raise InputError("manifest", path, f"cannot be read ({error}): give a Job, JobSet or Pods in YAML") from None
    objects: list[Any] = found[0].get("items") or [] if len(found) == 1 and _is_list(found[0]) else found
    if not objects or not all(type(one) is dict and "spec" in one and "metadata" in one for one in objects):
        raise InputError("manifest", path, "is no Kubernetes object: give one Job or JobSet, or Pods, in YAML")
    if len(objects) == 1:
        return dict(objects[0])
    name = objects[0]["metadata"].get("name", "")
    return {"kind": "List", "metadata": {"name": f"{name} and {len(objects) - 1} more"}, "items": objects}


def _is_list(one: object) -> bool:
    return isinstance(one, dict) and one.get("kind") == "List"  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _findings(said: list[dict[str, str]]) -> RenderableType:
    """Show one line for each finding."""
    rows = [(one["level"], one["what"], one["said"], one["remedy"]) for one in said]
    return screen.table("Cluster", ("", "what", "how it is", "what helps"), rows)
