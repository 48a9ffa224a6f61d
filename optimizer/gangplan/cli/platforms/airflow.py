"""The commands `gangplan airflow ...`: the DAGs that ship with gangplan, brought into an Airflow's DAGs folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit
from gangplan.config import write_atomic
from gangplan.errors import InputError

airflow_app = typer.Typer(help="The DAGs that ship with gangplan, for an Airflow.", no_args_is_help=True)

_THIN = '''\
"""The DAG {name} of gangplan, as the installed gangplan has it: an upgrade of gangplan is one of this DAG.

`gangplan airflow dags` wrote this file, and leaves it as it is once it was changed.
"""

from gangplan_airflow.dags.{folder}.{name} import the_dag

__all__ = ["the_dag"]
'''


@airflow_app.callback()
def about() -> None:
    """Say what the group is about; with one command alone, Typer would leave the group's name out."""


@airflow_app.command("dags", epilog="Example:  gangplan airflow dags --into /opt/airflow/dags/gangplan")
def write_dags(
    into: Annotated[Path, typer.Option(help="A folder of an Airflow's DAGs; it is made where it is missing.")],
    examples: Annotated[bool, typer.Option("--examples", help="The examples too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that were changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one thin file for each DAG, which imports it from the installed gangplan.

    A file that was changed is never written over without --force; then nothing is written at all.
    """
    texts = {into / f"{path.stem}.py": _thin(path) for path in _shipped(examples)}
    there = {path: path.read_text() for path in texts if path.exists()}
    changed = [str(path) for path, text in there.items() if text != texts[path]]
    if changed and not force:
        remedy = "is not as gangplan writes it: move it away, or give --force to write over it; nothing was written"
        raise InputError("into", ", ".join(changed), remedy)
    written = [path for path, text in texts.items() if there.get(path) != text]
    for path in written:
        write_atomic(path, texts[path])
    emit(as_json, {"written": [str(path) for path in written]}, screen.written)


def _shipped(examples: bool) -> list[Path]:
    """Return the files of the DAGs that ship with gangplan; Airflow itself need not be here."""
    found = find_spec("gangplan_airflow")
    if found is None or found.origin is None:
        raise InputError("gangplan_airflow", "", "is not installed: install gangplan from its wheel")
    folder = Path(found.origin).parent / "dags"
    return [path for name in ("cycle", "examples")[: 1 + examples] for path in sorted((folder / name).glob("*.py"))]


def _thin(path: Path) -> str:
    return _THIN.format(folder=path.parent.name, name=path.stem)
