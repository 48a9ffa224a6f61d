"""The edge between a component and gangplan: settings from the step's parameters, an error as one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gangplan.config import Settings, load_settings
from gangplan.errors import GangplanError
from gangplan.extras import needs_extras


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
