"""The command `gangplan doctor`: everything that plans need, looked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, settings_here
from gangplan.errors import GangplanError

if TYPE_CHECKING:
    from gangplan.reserve import Finding

doctor_app = typer.Typer()


@doctor_app.command("doctor", epilog="Example:  gangplan doctor   |   gangplan doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """Look at settings, MLflow, ledger, fleet file, and targets.yaml on its live engines; change nothing there.

    Each thing that is wrong is shown with what helps. It ends with 1 where something is. No plan is needed.
    """
    from gangplan.workflows import examine_all

    tell(as_json, "doctor", "What plans need", examine_all(settings_here))


def tell(as_json: bool, who: str, title: str, findings: Sequence[Finding]) -> None:
    """Print what a doctor found, and fail where something is wrong."""
    from gangplan.reserve import BAD

    emit(as_json, [asdict(finding) for finding in findings], lambda rows: screen.findings(title, rows))
    bad = sum(finding.level == BAD for finding in findings)
    if bad:
        things = "1 thing is" if bad == 1 else f"{bad} things are"
        raise GangplanError(f"{who}: {things} wrong: see what helps")
