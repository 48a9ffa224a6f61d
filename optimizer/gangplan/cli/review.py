"""The commands `gangplan review ...`: show the demand models in the registry, approve or reject them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gangplan import forecast, serve, summaries, workflows
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, open_store_here, settings_here
from gangplan.errors import InputError

review_app = typer.Typer(
    name="review", help="Look at the demand models in the registry; say yes or no.", no_args_is_help=True
)

Version = Annotated[str, typer.Argument(help="Number of the version.")]
By = Annotated[str, typer.Option(help="Who says so.")]
Why = Annotated[str, typer.Option(help="The reason, kept with the version.")]
SECRET = "GANGPLAN_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable that holds it


@review_app.command("list", epilog="Example:  gangplan review list")
def list_versions(as_json: AsJson = False) -> None:
    """List the versions with their aliases, back-test and verdict."""
    store = open_store_here()
    forecast.record_manual_changes(store, settings_here().clock)
    emit(
        as_json,
        summaries.of_versions(forecast.list_versions(store)),
        lambda rows: screen.records("Demand models", rows),
    )


@review_app.command("show", epilog="Example:  gangplan review show 3 --page")
def show_version(
    version: Version,
    page: Annotated[bool, typer.Option("--page", help="Write the page for reviewers, too, and name it.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; default: review/ in the home folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: how it did, beside naive and champion, and its history."""
    store = open_store_here()
    forecast.record_manual_changes(store, settings_here().clock)
    summary = summaries.of_version(forecast.show_version(store, version), forecast.standing(store, version))
    if page or out is not None:
        summary["page"] = str(workflows.write_page(settings_here(), version, out))
    emit(as_json, summary, screen.version)


@review_app.command("approve", epilog="Example:  gangplan review approve 3 --by ada --why 'better on every tenant'")
def approve(
    version: Version,
    by: By,
    why: Why,
    force: Annotated[
        bool, typer.Option(help="Also where the gate or a reviewer refused it, or its days in the shadow are not over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion."""
    store = open_store_here()
    approved = forecast.approve(store, version, by=by, why=why, clock=settings_here().clock, force=force)
    emit(as_json, summaries.of_version(approved), screen.version)


@review_app.command("reject", epilog="Example:  gangplan review reject 3 --by ada --why 'worse on weekends'")
def reject(version: Version, by: By, why: Why, as_json: AsJson = False) -> None:
    """Refuse a challenger, with the reason."""
    store = open_store_here()
    rejected = forecast.reject(store, version, by=by, why=why, clock=settings_here().clock)
    emit(as_json, summaries.of_version(rejected), screen.version)


@review_app.command("rollback", epilog="Example:  gangplan review rollback --by ada --why 'forecast drifts'")
def rollback(
    by: By,
    why: Why,
    to: Annotated[str | None, typer.Option(help="Number of a version; default: the champion before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give the champion's place back to the one before."""
    store = open_store_here()
    champion = forecast.rollback(store, to, by=by, why=why, clock=settings_here().clock)
    emit(as_json, summaries.of_version(champion), screen.version)


@review_app.command("history", epilog="Example:  gangplan review history --json")
def history(as_json: AsJson = False) -> None:
    """List every change of an alias, the oldest first: when, what, which version, by whom, why."""
    store = open_store_here()
    forecast.record_manual_changes(store, settings_here().clock)
    emit(as_json, summaries.of_decisions(forecast.history(store)), screen.decisions)


@review_app.command("watch", epilog="Example:  gangplan review watch")
def watch(as_json: AsJson = False) -> None:
    """Do what is due: record what was done by hand, let a challenger forecast in the shadow, decide when it is over."""
    decided = workflows.watch(settings_here())
    emit(as_json, summaries.of_decisions([] if decided is None else [decided]), screen.decisions)


@review_app.command("listen", epilog=f"Example:  {SECRET}=... gangplan review listen --port 8765")
def listen(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")] = 8765,
) -> None:
    """Take MLflow's webhooks, check their signatures, record changes made by hand as they happen."""
    serve.serve(settings_here(), secret=_secret(), host=host, port=port, log=console.print)


@review_app.command(
    "subscribe", epilog=f"Example:  {SECRET}=... gangplan review subscribe https://gangplan.example/hook"
)
def subscribe(
    url: Annotated[str, typer.Argument(help="Where `gangplan review listen` is reached from MLflow's server.")],
    as_json: AsJson = False,
) -> None:
    """Ask MLflow's server to tell of every version, alias and tag of the demand model."""
    webhook = serve.subscribe(open_store_here(), url, _secret())
    emit(as_json, {"webhook": webhook}, lambda _: f"webhook {webhook}")


def _secret() -> str:
    """Return the secret of the webhooks, from the environment: other users could see an argument."""
    secret = os.environ.get(SECRET, "")
    if len(secret) < 16:
        raise InputError(SECRET, "" if not secret else "a short one", "is needed, with 16 characters at least: set it")
    return secret
