"""The commands `gangplan power ...`: measured curves, the carbon of grids, caps on nodes, the agent that holds them."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_store_here, settings_here
from gangplan.errors import InputError

if TYPE_CHECKING:
    from gangplan.types import PowerCurve

power_app = typer.Typer(help="Power and carbon: measured curves, grids, caps on nodes.", no_args_is_help=True)
carbon_app = typer.Typer(help="The carbon of grids: what ships, and hourly series of your own.", no_args_is_help=True)
power_app.add_typer(carbon_app, name="carbon")

Context = Annotated[
    str, typer.Option(help="The kubeconfig's context; default: the current one, or this pod's cluster.")
]


@power_app.command("curve", epilog="Example:  gangplan power curve caps.csv --plot caps.svg   |   gangplan power curve")
def curve(
    source: Annotated[
        str | None, typer.Argument(help="A CSV file of measurements, or mlflow+URI; none: show the curves there are.")
    ] = None,
    metric: Annotated[str, typer.Option(help="With MLflow: the metric that says how fast a run was.")] = "",
    measured: Annotated[str, typer.Option(help="The day of rows that do not say theirs, like 2026-03-01.")] = "",
    least: Annotated[int, typer.Option(min=5, help="Fewer measurements than this at one setting are refused.")] = 5,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves: .svg or .png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit curves of speed and watts under caps from what was measured, check and keep them; nothing is invented."""
    from gangplan import execute

    file = settings_here().curves_file
    if source is None:
        curves = execute.read_curves(file)
    else:
        curves = execute.write_curves(file, execute.fit_curves(_rows(source, metric, measured), least=least))
    picture = None if plot is None else str(execute.draw_curves(plot, curves))
    emit(as_json, {"file": str(file), "curves": [_of_curve(one) for one in curves], "plot": picture}, _curves_table)


def _rows(source: str, metric: str, measured: str) -> list[Any]:
    """Read measurements from where the source says."""
    from gangplan import execute

    uri = source.removeprefix("mlflow+")
    if uri != source:
        if not metric:
            raise InputError.missing("--metric")
        return execute.measured_from_mlflow(uri, metric)
    try:
        return execute.measured_from_csv(Path(source), measured=date.fromisoformat(measured) if measured else None)
    except ValueError:
        raise InputError("--measured", measured, "is no day: give it like 2026-03-01") from None


def _of_curve(one: PowerCurve) -> dict[str, Any]:
    return {
        "workload_class": one.workload_class.value,
        "accelerator": one.accelerator,
        "knob": one.knob.value,
        "measured": one.measured.isoformat(),
        "points": [asdict(point) for point in one.points],
    }


def _curves_table(summary: dict[str, Any]) -> object:
    if not summary["curves"]:
        return f"{summary['file']} has no curve: nothing is capped"
    rows = [
        (
            each["workload_class"],
            each["accelerator"],
            f"{each['knob']} {point['setting']}",
            f"{point['speed']:.1%}",
            f"{point['watts']:,.0f}",
            point["samples"],
            each["measured"],
        )
        for each in summary["curves"]
        for point in each["points"]
    ]
    heads = ("class", "accelerator", "at", "speed", "watts", "measurements", "newest")
    return screen.table("Under caps, as measured", heads, rows)


@carbon_app.command("list", epilog="Example:  gangplan power carbon list DEU europe-north1")
def list_grids(
    names: Annotated[list[str] | None, typer.Argument(help="Regions and countries (ISO 3166); none: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what grids emit: your own hourly series, and the yearly means that ship, with year and source."""
    from gangplan import execute

    series = execute.read_grids(settings_here().carbon_file)
    own = {name: (sum(grid.typical) / 24, grid.source) for name, grid in series.items()}
    known = {name: (one.g_per_kwh, one.words) for name, one in execute.yearly_grids().items()} | own
    for name in names or ():
        if name not in known:
            raise InputError.unknown("region", name, "no grid that ships, and in no series of yours")
    rows = [
        {"region": name, "g_per_kwh": round(known[name][0], 1), "source": known[name][1]} for name in names or known
    ]
    emit(as_json, rows, lambda listed: screen.records("Grids", listed))


@carbon_app.command(
    "import", epilog="Example:  gangplan power carbon import df_fuel.csv --column hour=DATETIME --region GBR"
)
def import_grid(
    file: Annotated[Path, typer.Argument(help="CSV with hour, region and g_per_kwh, whatever they are called.")],
    column: Annotated[
        list[str] | None, typer.Option(help="OURS=THEIRS, such as hour=DATETIME; may be repeated.")
    ] = None,
    region: Annotated[str, typer.Option(help="The region of all rows, where no column says it.")] = "",
    unit: Annotated[str, typer.Option(help="g/kWh, kg/MWh, t/GWh, lb/MWh, kg/kWh or lb/kWh.")] = "g/kWh",
    zone: Annotated[str, typer.Option(help="Time zone of times without an offset, like Europe/London.")] = "UTC",
    as_json: AsJson = False,
) -> None:
    """Bring an hourly series of a grid's carbon in; plans use it for pools of that region from then on."""
    from gangplan import execute

    names = dict(_pair(text) for text in column or ())
    added = execute.read_carbon(file, execute.CarbonColumns(names=names, region=region, unit=unit, zone=zone))
    if not added:
        raise InputError("carbon", file, "has no row")
    kept = execute.add_carbon(settings_here().carbon_file, added)
    rows = [
        {
            "region": name,
            "hours": len(kept[name]),
            "first": f"{min(kept[name]):%Y-%m-%dT%H:%MZ}",
            "last": f"{max(kept[name]):%Y-%m-%dT%H:%MZ}",
            "mean_g_per_kwh": round(sum(hours.values()) / len(hours), 1),
        }
        for name, hours in added.items()
    ]
    emit(as_json, rows, lambda listed: screen.records("Grids", listed))


def _pair(text: str) -> tuple[str, str]:
    ours, sign, theirs = text.partition("=")
    if not sign:
        raise InputError("--column", text, "is not understood: give it as hour=DATETIME")
    return ours, theirs


@power_app.command("caps", epilog="Example:  gangplan power caps   |   gangplan power caps --yes")
def caps(
    context: Context = "",
    yes: Annotated[bool, typer.Option("--yes", help="Write the labels; without it they are only shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which nodes get which cap for the gangs on them, as the published plan has it; --yes writes the labels."""
    from gangplan import plan, workflows
    from gangplan.kube import connect

    published = plan.read_published(open_store_here())
    steps = workflows.bring_caps(published, connect(context), settings_here().clock(), dry_run=not yes)
    summary = {"plan_id": published.plan_id, "written": yes, "steps": [asdict(step) for step in steps]}
    emit(as_json, summary, _steps_table)


def _steps_table(summary: dict[str, Any]) -> object:
    if not summary["steps"]:
        return "every node has the cap that the plan wants"
    rows = [
        (step["node"], step["knob"].value, step["before"] or "none", step["after"] or "none", step["why"])
        for step in summary["steps"]
    ]
    title = "Caps that were written" if summary["written"] else "Caps to write (gangplan power caps --yes)"
    return screen.table(title, ("node", "label", "is", "shall be", "why"), rows)


@power_app.command(
    "manifests", epilog="Example:  gangplan power manifests --image registry/gangplan:1 | kubectl apply -f -"
)
def print_manifests(
    namespace: Annotated[str, typer.Option(help="The namespace of the agents.")] = "gangplan",
    image: Annotated[str, typer.Option(help="An image with gangplan and its extra `kubernetes`.")] = "gangplan",
) -> None:
    """Print the agent's service account, role and DaemonSet, as YAML."""
    from gangplan.execute import power_manifests

    yaml.safe_dump_all(power_manifests(namespace, image), sys.stdout, sort_keys=False)


@power_app.command("agent", epilog="Example:  NODE_NAME=h100-3 gangplan power agent   (what the DaemonSet runs)")
def agent(
    node: Annotated[str, typer.Option(envvar="NODE_NAME", help="This node's name in the cluster.")],
    context: Context = "",
    every: Annotated[
        int, typer.Option(min=1, max=600, help="Seconds after which the limits are looked at again.")
    ] = 30,
) -> None:
    """Hold the cap that this node's label says, until stopped; then set the GPUs' default limits again."""
    from gangplan import execute
    from gangplan.kube import connect

    api = connect(context)
    execute.require_node(api, node)
    with execute.Nvml() as nvml:
        running = execute.PowerAgent(api, node, nvml, every_s=every)
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, lambda _number, _frame: running.stop())
        running.run()
