"""The pages under /gangplan in Airflow's web server; each needs a user who is logged in."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import FileResponse

from gangplan import summaries
from gangplan.config import load_settings
from gangplan.errors import GangplanError, UnavailableError
from gangplan.reserve import open_ledger
from gangplan.types import ReservationState

State = Annotated[ReservationState | None, Query(description="Only reservations in this state.")]


def make_app() -> FastAPI:
    """Make the application. A mounted app is open to everyone unless it asks for the user itself, so all of it does."""
    app = FastAPI(title="gangplan", dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/reservations")(reservations)
    app.get("/report")(report)
    return app


def reservations(state: State = None) -> list[dict[str, Any]]:
    """List the ledger's reservations, without the tokens by which their holders act."""
    try:
        with open_ledger(load_settings().ledger_url) as ledger:
            listed = ledger.list(state)
    except GangplanError as error:
        raise HTTPException(503 if isinstance(error, UnavailableError) else 500, str(error)) from error
    return [{name: value for name, value in summaries.of_reservation(row).items() if name != "token"} for row in listed]


def report() -> FileResponse:
    """Show the report of the newest cycle."""
    page = load_settings().report_file
    if not page.is_file():
        raise HTTPException(404, "there is no report yet: the DAG gangplan_feedback writes it")
    return FileResponse(page, media_type="text/html")
