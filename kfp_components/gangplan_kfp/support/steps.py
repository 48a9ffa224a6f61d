"""What every step needs: its image, settings from its parameters, an error as one line, a name to do things once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gangplan import __version__
from gangplan.config import Settings, load_settings
from gangplan.errors import GangplanError, InputError
from gangplan.extras import needs_extras
from gangplan.types import require_name
from gangplan.urls import carries_secret

IMAGE: str = os.environ.get("GANGPLAN_KFP_IMAGE", f"gangplan-python:{__version__}")
"""The image of the steps, with the gangplan wheel and kfp; nothing is installed when a step starts.

Read when a pipeline is compiled; set GANGPLAN_KFP_IMAGE to the name under which your cluster finds the image.
"""

_VARIABLE = {"source": "GANGPLAN_TELEMETRY"}
"""The variable of a parameter that has another name than its setting."""


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
    """Read the settings: an empty parameter leaves that one to the step's environment (GANGPLAN_*).

    Raises
    ------
    InputError
        When a setting is wrong, or is a URL with a secret: Kubeflow shows every parameter.
    """
    values = {**dict(given or {}), **{name: value for name, value in named.items() if value != ""}}
    refuse_secrets(values)
    return load_settings(**values)


def refuse_secrets(parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter with a URL that has a password, a token or another secret, at any depth."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            refuse_secrets(value)
        elif carries_secret(value if isinstance(value, str) else json.dumps(value, default=str)):
            variable = _VARIABLE.get(name, f"GANGPLAN_{name.upper()}")
            raise InputError(
                name,
                value,
                "has a secret, and Kubeflow shows every parameter: change that secret, keep the URL in a Kubernetes "
                f"Secret under {variable}, and give the step its environment: with_secret(task)",
            )


def run_key(run_id: str, name: str, *given: object) -> str:
    """Return the name in which a step of a run asks for something once; other parameters make another name."""
    if not re.fullmatch(r"[\w.-]{1,150}", run_id, re.ASCII):
        raise InputError("run_id", run_id, "is no run's id: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER")
    digest = hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"kfp/{run_id}/{require_name('name', name)}/{digest}"


def say(text: str) -> None:
    """Print a line now: a step's log is read while it runs."""
    print(text, flush=True)
