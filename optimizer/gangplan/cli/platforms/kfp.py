"""The commands `gangplan kfp ...`: pipelines compiled, sent to a Kubeflow Pipelines, scheduled there and followed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.doctor import tell
from gangplan.cli.platforms import runs_screen
from gangplan.cli.terminal import AsJson, console, emit, open_ledger_here, settings_here
from gangplan.errors import GangplanError, InputError
from gangplan.extras import needs_extras
from gangplan.types import Reservation

if TYPE_CHECKING:
    from gangplan.reserve import OperableLedger

kfp_app = typer.Typer(
    help="Kubeflow Pipelines: pipelines compiled, sent, scheduled and followed.", no_args_is_help=True
)


def _names(incomplete: str) -> list[str]:
    """Complete the names of what ships, by its files: KFP takes seconds to import."""
    found = find_spec("gangplan_kfp")
    here = Path(found.origin).parent if found and found.origin else Path()
    files = [*(here / "compiled").glob("*.yaml"), *(here.parent / "compiled").glob("*.yaml")]
    return sorted({file.stem for file in files if file.stem.startswith(incomplete)})


_RUN = ("id", "name", "state", "created_at", "finished_at", "error", "steps")

Pipeline = Annotated[
    str, typer.Argument(help="A pipeline that ships with gangplan, or a compiled YAML file.", autocompletion=_names)
]
Arguments = Annotated[
    list[str] | None, typer.Option("--set", help="An argument, like pods=2 or 'accelerators=[h100]'; more than once.")
]
Image = Annotated[str, typer.Option(help="The image of the steps; default: GANGPLAN_KFP_IMAGE.")]
Experiment = Annotated[
    str, typer.Option(envvar="KF_PIPELINES_DEFAULT_EXPERIMENT_NAME", help="KFP's experiment; it is made if need be.")
]
Host = Annotated[str, typer.Option(help="KFP's address (GANGPLAN_KFP_HOST); default: as KFP's client finds it.")]
Namespace = Annotated[str, typer.Option(help="The namespace, where KFP serves several.")]


@kfp_app.command("compile", epilog="Example:  gangplan kfp compile --into pipelines --image registry/gangplan:1")
def compile_pipelines(
    names: Annotated[
        list[str] | None, typer.Argument(help="Pipelines and components; default: all.", autocompletion=_names)
    ] = None,
    into: Annotated[Path, typer.Option(help="A folder; it is made where it is missing.")] = Path("pipelines"),
    image: Image = "",
    as_json: AsJson = False,
) -> None:
    """Write the pipelines and components that ship with gangplan as YAML: the same bytes each time."""
    written = _kfp().compile_into(into, names or (), image)
    emit(as_json, {"written": [str(path) for path in written]}, screen.written)


@kfp_app.command(
    "submit", epilog="Example:  gangplan kfp submit reserved_training --set tenant=vision --set pods=2 --wait"
)
def submit(
    pipeline: Pipeline,
    arguments: Arguments = None,
    experiment: Experiment = "Default",
    run_name: Annotated[str, typer.Option(help="What the run is called; default: the pipeline and the time.")] = "",
    image: Image = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run to its end; exit code 1 if it fails.")] = False,
    host: Host = "",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Start a run. Its arguments are checked against the pipeline's inputs before anything is sent."""
    kfp = _kfp()
    package = kfp.read_package(pipeline, image)
    checked = package.arguments(arguments or ())
    server = _connect(kfp, host, namespace)
    name = run_name or f"{package.name} {settings_here().clock():%Y-%m-%d %H-%M-%S}"
    run = kfp.submit(server, package, checked, experiment=experiment, name=name)
    if wait:
        run = _followed(kfp, server, run, as_json)
    emit(as_json, _summary(run, ()), lambda _: runs_screen.one_run(run, ()))
    if run.over and run.state != "SUCCEEDED":
        raise GangplanError(f"run {run.id} ended as {run.state}{f': {run.error}' if run.error else ''}")


@kfp_app.command(
    "schedule", epilog="Example:  gangplan kfp schedule plan_and_apply --every 1h   |   gangplan kfp schedule --list"
)
def schedule(
    pipeline: Annotated[
        str,
        typer.Argument(help="A pipeline that ships with gangplan, or a compiled YAML file.", autocompletion=_names),
    ] = "",
    cron: Annotated[
        str, typer.Option(help="When, like '0 3 * * *' (KFP counts in UTC unless it is set up otherwise).")
    ] = "",
    every: Annotated[str, typer.Option(help="How often, like 90s, 30m, 2h or 1d.")] = "",
    arguments: Arguments = None,
    name: Annotated[str, typer.Option(help="What the schedule is called; default: as the pipeline.")] = "",
    experiment: Experiment = "Default",
    image: Image = "",
    disable: Annotated[bool, typer.Option("--disable", help="Keep it from starting runs.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the schedules that there are.")] = False,
    host: Host = "",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Start a run again and again, one at a time; the same call a second time changes nothing.

    Another time or other arguments replace the schedule of that name. Runs that were missed are not made up for.
    """
    kfp = _kfp()
    if not pipeline and not list_ and not (name and (delete or disable)):
        raise InputError("pipeline", pipeline, "is missing: name what is to run, or give --list")
    package = kfp.read_package(pipeline, image) if pipeline else None
    called = name or (package.name if package else "")
    if package is None or list_ or delete or (disable and not (cron or every)):
        act = kfp.schedules if list_ else kfp.delete if delete else kfp.disable
        found, done = act(_connect(kfp, host, namespace), called), "" if list_ else "deleted" if delete else "disabled"
    else:
        when, checked = kfp.when_from(cron, every), package.arguments(arguments or ())
        made, done = kfp.schedule(
            _connect(kfp, host, namespace),
            package,
            checked,
            name=called,
            when=when,
            experiment=experiment,
            enabled=not disable,
        )
        found = [made]
    rows = [{"name": each.name, "when": str(each.when), "enabled": each.enabled, "id": each.id} for each in found]
    emit(as_json, {"done": done, "schedules": rows}, runs_screen.schedules)


@kfp_app.command("status", epilog="Example:  gangplan kfp status   |   gangplan kfp status 0d3c...")
def status(
    run: Annotated[str, typer.Argument(help="A run's id, or its name; default: the newest runs.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest runs.")] = 20,
    host: Host = "",
    namespace: Namespace = "",
    as_json: AsJson = False,
) -> None:
    """Show runs with their states, and the gangs that they hold or wait for: state, ETA and reason."""
    kfp = _kfp()
    server = _connect(kfp, host, namespace)
    runs = [kfp.find_run(server, run)] if run else kfp.newest_runs(server, limit)
    with _book(kfp) as read:
        gangs, trouble = read(runs[0].id if run else "")
    if run:
        held = gangs.get(runs[0].id, ())
        emit(as_json, _summary(runs[0], held), lambda _: runs_screen.one_run(runs[0], held))
    else:
        rows = [_summary(each, gangs.get(each.id, ())) for each in runs]
        emit(as_json, rows, lambda _: runs_screen.runs(runs, gangs))
    if trouble:
        typer.echo(f"note: no gangs are shown: {trouble}", err=True)


@kfp_app.command("doctor", epilog="Example:  gangplan kfp doctor --host http://localhost:8888")
def doctor(host: Host = "", namespace: Namespace = "", as_json: AsJson = False) -> None:
    """Look for what would keep steps or this command from working; exit code 1 where something would.

    It looks at KFP's packages, the image that it runs in, the ledger, MLflow, the KFP server, and the rights of a pod.
    Run it at a desk, and in the image of the steps.
    """
    settings = settings_here()
    findings = _kfp().examine(settings, host or settings.kfp_host, namespace=namespace)
    tell(as_json, "kfp", "What steps and pipelines need", findings)


def _kfp() -> Any:
    """Return what talks to KFP: the core must not know it, so it is imported here and now."""
    with needs_extras():
        return import_module("gangplan_kfp.client")


def _connect(kfp: Any, host: str, namespace: str) -> Any:
    return kfp.connect(host or settings_here().kfp_host, namespace=namespace)


@contextmanager
def _book(kfp: Any) -> Generator[Callable[[str], tuple[Mapping[str, Sequence[Reservation]], str]]]:
    """Yield what reads the gangs of a run, or of all, by run, and tells why the ledger cannot be asked."""
    with ExitStack() as stack:
        opened: list[OperableLedger] = []

        def read(run: str) -> tuple[Mapping[str, Sequence[Reservation]], str]:
            try:
                if not opened:
                    opened.append(stack.enter_context(open_ledger_here()))
                opened[0].tick()
                return kfp.gangs(opened[0], run), ""
            except GangplanError as error:
                return {}, str(error)

        yield read


def _followed(kfp: Any, server: Any, run: Any, as_json: bool) -> Any:
    """Follow a run to its end: one bar at a terminal, elsewhere a line whenever something has changed."""
    last = ""
    with _book(kfp) as read, screen.progress(console, not as_json) as progress:

        def heard(now: Any) -> None:
            nonlocal last
            gangs, trouble = read(now.id)
            line = runs_screen.standing(now, gangs.get(now.id, ()), trouble)
            done = len(now.steps.get("SUCCEEDED", ()))
            progress(done, max(1, sum(map(len, now.steps.values()))), line)
            if line != last and not (as_json or console.is_terminal):
                typer.echo(line)
            last = line

        return kfp.wait(server, run.id, heard)


def _summary(run: Any, gangs: Iterable[Reservation]) -> dict[str, Any]:
    """Return a run with its gangs as plain values."""
    return {**summaries.fields_of(run, *_RUN), "gangs": [summaries.of_reservation(gang) for gang in gangs]}
