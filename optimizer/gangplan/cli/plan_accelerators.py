"""The command `gangplan plan accelerators`: the catalogue, and what of it meets a need."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, settings_here
from gangplan.errors import InputError
from gangplan.extras import needs_extras


def list_accelerators(
    feature: Annotated[list[str] | None, typer.Option(help="Only those with this feature; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="gpu, tpu, fpga, asic or cpu; may be repeated.")] = None,
    memory: Annotated[float, typer.Option(min=0, help="At least so many GB.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """List the accelerators that the catalogue knows: what they can do, what they cost, as of when."""
    with needs_extras():
        from gangplan.plan import AcceleratorKind, Need, read_catalogue
    catalogue = read_catalogue(settings_here().catalogue_file)
    for one in kind or ():
        if one not in list(AcceleratorKind):
            raise InputError("kind", one, f"is no kind of accelerator: use one of {', '.join(AcceleratorKind)}")
    need = Need(kinds=tuple(map(AcceleratorKind, kind or ())), features=tuple(feature or ()), memory_gb=memory)
    able = catalogue.speeds("asked for", need)
    said = [{"name": name, **asdict(one)} for name, one in catalogue.accelerators.items() if name in able]
    emit(as_json, {"as_of": catalogue.as_of.isoformat(), "accelerators": said}, _words)


def add_to(app: typer.Typer) -> None:
    """Make it a command of `gangplan plan`."""
    app.command("accelerators", epilog="Example:  gangplan plan accelerators --feature bf16 --memory 80")(
        list_accelerators
    )


def _words(said: dict[str, Any]) -> RenderableType:
    """Show the catalogue."""
    columns = ("name", "kind", "GB", "TFLOPS", "W", "an hour", "in a node", "can")
    rows = [
        (
            one["name"],
            one["kind"].value,
            one["memory_gb"],
            one["bf16_tflops"],
            one["watts"],
            one["on_demand"],
            one["gpus_per_node"],
            " ".join(one["features"]),
        )
        for one in said["accelerators"]
    ]
    return screen.table(f"Accelerators, prices estimated as of {said['as_of']}", columns, rows)
