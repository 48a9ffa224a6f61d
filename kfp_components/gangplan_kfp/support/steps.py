"""What every step needs: its image, settings from its parameters, an error as one line; and the stages that it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gangplan import __version__
from gangplan.config import Settings, load_settings
from gangplan.errors import GangplanError
from gangplan.extras import needs_extras

if TYPE_CHECKING:
    from gangplan.types import Plan, Training
    from gangplan.workflows import Applied

IMAGE: str = os.environ.get("GANGPLAN_KFP_IMAGE", f"gangplan-python:{__version__}")
"""The image of the steps, with the gangplan wheel and kfp; nothing is installed when a step starts.

Read when a pipeline is compiled; set GANGPLAN_KFP_IMAGE to the name under which your cluster finds the image.
"""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the step with one line and gangplan's exit code, instead of a traceback, when gangplan says no."""
    try:
        with needs_extras():
            yield
    except GangplanError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None


def settings_from(given: Mapping[str, Any] | None = None, **named: str) -> Settings:
    """Read the settings: an empty parameter leaves that one to the step's environment (GANGPLAN_*)."""
    return load_settings(**dict(given or {}), **{name: value for name, value in named.items() if value != ""})


def say(text: str) -> None:
    """Print a line now: a step's log is read while it runs."""
    print(text, flush=True)


def train(settings: Mapping[str, Any], *, mlflow: str, home: str) -> Training:
    """Train, back-test, register; promote if the gate passes."""
    read = settings_from(settings, mlflow=mlflow, home=home)
    from gangplan import cycle  # takes seconds: a wrong setting is told before it

    return cycle.train(read, progress=_tell)


def make_plan(settings: Mapping[str, Any], *, mlflow: str, ledger: str, fleet: str, home: str) -> Plan:
    """Forecast, plan, keep the plan, publish the calendar."""
    read = settings_from(settings, mlflow=mlflow, ledger=ledger, fleet=fleet, home=home)
    from gangplan import cycle

    return cycle.make_plan(read, progress=_tell)


def apply_plan(settings: Mapping[str, Any], *, dry_run: bool, **named: str) -> Applied:
    """Carry the newest published plan out in one pass, and say each step."""
    read = settings_from(settings, **named)
    from gangplan import cycle

    applied = cycle.apply(read, dry_run=dry_run)
    for line in applied.lines():
        say(line)
    return applied


def _tell(done: float, total: float, text: str, /) -> None:
    """Print how far the stage is."""
    say(f"{done:g}/{total:g} {text}")
