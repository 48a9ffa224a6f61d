"""The command `gangplan controller`: plans are carried out for good, by one of any number of processes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from gangplan.cli.terminal import settings_here, stopped
from gangplan.clock import DURATION, parse_span
from gangplan.types import require_positive

controller_app = typer.Typer()


@controller_app.command("controller", epilog="Example:  gangplan controller --listen 0.0.0.0:9095")
def run(
    once: Annotated[bool, typer.Option("--once", help="Do all the work once and end, such as in a CronJob.")] = False,
    every: Annotated[str, typer.Option(help=f"Its longest pause between two looks at all, {DURATION}.")] = "10s",
    listen: Annotated[str, typer.Option(help="Where /metrics, /healthz and /readyz are served.")] = "127.0.0.1:9095",
    lease: Annotated[str, typer.Option(help=f"How long a leader that died holds the others up, {DURATION}.")] = "15s",
    namespace: Annotated[
        str, typer.Option(help="Where the Lease is; default: the pod's, else the ledger's namespace.")
    ] = "",
) -> None:
    """Carry the published plan out, and give back what ended owners left; one of all that run leads.

    Logs are lines of JSON on standard error. It ends cleanly on SIGTERM and Ctrl-C, and hands the lead over.
    """
    from gangplan.execute import log_as_json
    from gangplan.workflows import Controller, ControllerOptions

    settings = settings_here()
    settings.require_present("gangplan controller")
    spans = {name: parse_span(name, text).total_seconds() for name, text in (("--every", every), ("--lease", lease))}
    for name, seconds in spans.items():
        require_positive(name, seconds)
    options = ControllerOptions(every_s=spans["--every"], listen=listen, lease_s=spans["--lease"], namespace=namespace)
    log_as_json(sys.stderr)
    if once:
        Controller(settings, options).once()
        return
    with stopped() as stop:
        finished = Controller(settings, options).run(stop)
    if not finished:
        sys.stderr.flush()
        os._exit(0)  # a thread that waits for an engine would hold Python's own end up
