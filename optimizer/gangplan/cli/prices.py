"""The commands `gangplan prices ...`: what pools cost, from SkyPilot's catalog or from EC2, into the fleet file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gangplan import execute
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, settings_here
from gangplan.config import read_fleet, write_fleet

if TYPE_CHECKING:
    from gangplan.execute import PriceChange
    from gangplan.types import Fleet

prices_app = typer.Typer(help="What nodes cost: bring prices of clouds into the fleet file.", no_args_is_help=True)

Region = Annotated[str, typer.Option(help="The cloud's region; default: that of each pool.")]
Machines = Annotated[
    list[str] | None, typer.Option("--machine", help="A pool's machine type, like h100=p5.48xlarge; may be repeated.")
]
Pools = Annotated[
    list[str] | None, typer.Option("--pool", help="Only this pool; may be repeated. Default: all that a cloud bills.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Write without asking.")]


@prices_app.command("import", epilog="Example:  gangplan prices import --skypilot vms.csv --region us-east-1")
def import_prices(
    skypilot: Annotated[Path, typer.Option(help="SkyPilot's vms.csv of one cloud.")],
    region: Region = "",
    machine: Machines = None,
    pool: Pools = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take the pools' prices, on demand and spot, from SkyPilot's catalog; they are shown before they are written."""
    fleet = read_fleet(settings_here().fleet_file)
    offers = execute.read_skypilot(skypilot)
    changes = execute.catalog_changes(
        execute.bought_pools(fleet, pool or ()),
        offers,
        region=region,
        machines=execute.machines_of(machine or (), fleet),
    )
    _write(fleet, changes, yes=yes, as_json=as_json)


@prices_app.command("spot", epilog="Example:  gangplan prices spot --pool spot --machine spot=p5.48xlarge")
def spot(
    pool: Annotated[list[str], typer.Option("--pool", help="A spot pool on EC2; may be repeated.")],
    machine: Machines = None,
    region: Region = "",
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="Hours up to now that the mean is taken of.")] = 24,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take the mean spot price of the last hours from EC2 (DescribeSpotPriceHistory), in each pool's zone."""
    fleet, now = read_fleet(settings_here().fleet_file), settings_here().clock()
    changes = execute.spot_changes(
        execute.bought_pools(fleet, pool),
        execute.machines_of(machine or (), fleet),
        region=region,
        since=now - timedelta(hours=hours),
        until=now,
    )
    _write(fleet, changes, yes=yes, as_json=as_json)


def _write(fleet: Fleet, changes: Iterable[PriceChange], *, yes: bool, as_json: bool) -> None:
    """Show the changes, and write them once somebody has agreed; JSON asks nobody."""
    made = tuple(execute.changed_prices(changes))
    if not as_json:
        console.print(_table([asdict(change) for change in made]))
    agreed = bool(made) and (yes or (not as_json and typer.confirm("Write these prices?")))
    file = settings_here().fleet_file
    if agreed:
        write_fleet(file, execute.repriced(fleet, made))
    written = [str(file)] if agreed else []
    if as_json:
        emit(True, {"changes": [asdict(change) for change in made], "written": written}, str)
    elif agreed:
        console.print(screen.written({"written": written}))


def _table(rows: list[dict[str, Any]]) -> object:
    if not rows:
        return "No price differs."
    columns: screen.Columns = {
        "pool": "pool",
        "machine": "machine",
        "zone": "zone",
        "per node-hour": "before",
        "will be": "after",
        "change": lambda row: f"{row['after'] / row['before'] - 1:+.1%}" if row["before"] else "",
    }
    return screen.listing("Prices in US dollars", rows, columns)
