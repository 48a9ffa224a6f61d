"""The command `gangplan doctor`: everything that plans need, looked at once."""

from __future__ import annotations

from dataclasses import asdict

import typer

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, settings_here
from gangplan.errors import GangplanError

doctor_app = typer.Typer()

_LEVELS = {"good": "ok", "note": "note", "bad": "WRONG"}


@doctor_app.command("doctor", epilog="Example:  gangplan doctor   |   gangplan doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """Look at settings, MLflow, ledger, fleet file, and targets.yaml on its live engines; change nothing there.

    Each thing that is wrong is shown with what helps. It ends with 1 where something is. No plan is needed.
    """
    from gangplan.reserve import BAD
    from gangplan.workflows import examine_all

    findings = examine_all(settings_here)
    emit(as_json, [asdict(finding) for finding in findings], _table)
    bad = sum(finding.level == BAD for finding in findings)
    if bad:
        things = "1 thing is" if bad == 1 else f"{bad} things are"
        raise GangplanError(f"doctor: {things} wrong: see what helps")


def _table(rows: list[screen.Row]) -> object:
    columns: screen.Columns = {
        "": lambda row: _LEVELS[row["level"]],
        "what": "what",
        "how it is, and what helps": lambda row: "\n-> ".join(filter(None, (row["said"], row["remedy"]))),
    }
    return screen.listing("What plans need", rows, columns)
