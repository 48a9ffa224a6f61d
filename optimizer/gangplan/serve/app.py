"""The web page over ledger, plan and registry, as one application that a host mounts under its users and roles.

Airflow mounts it (`gangplan_airflow.web`). The host brings the visitor, as a FastAPI dependency that refuses a request
without a user, and says where the ledger is. Every route, also that of the scripts, asks for the visitor first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gangplan.clock import Clock
from gangplan.config import Settings, load_settings
from gangplan.errors import ForbiddenError, GangplanError, InputError, NotFoundError, UnavailableError
from gangplan.serve.ledger_pages import LedgerPages
from gangplan.serve.live import Live
from gangplan.serve.model_pages import ModelPages
from gangplan.serve.plan_pages import PlanPages
from gangplan.serve.shelf import Shelf
from gangplan.serve.site import HERE, STATIC, Site
from gangplan.serve.visitors import Visitor

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_STATUS = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def make_app(
    visitor: Callable[..., Visitor] | Callable[..., Awaitable[Visitor]],
    *,
    ledger_url: Callable[[], str],
    settings: Callable[[], Settings] = load_settings,
    clock: Clock | None = None,
) -> FastAPI:
    """Make the application; nothing is opened before the first visitor comes.

    Parameters
    ----------
    visitor
        A FastAPI dependency that returns who asks, and raises `HTTPException` (401) where nobody is logged in.
    ledger_url
        Says where the ledger is; asked again now and then, since somebody may change it.
    clock
        By default that of the settings.
    """

    def attach(request: Request, who: Visitor = Depends(visitor)) -> None:  # noqa: B008  FastAPI reads the default
        request.state.visitor = who

    app = FastAPI(title="gangplan", dependencies=[Depends(attach)], docs_url=None, redoc_url=None, openapi_url=None)
    now = clock or (lambda: settings().clock())
    site = Site(live=Live(ledger_url, now), shelf=Shelf(settings), settings=settings, clock=now)
    app.state.site = site
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(Headers)
    _add_routes(app, site)

    def failed(request: Request, error: Exception) -> HTMLResponse | JSONResponse:
        if isinstance(error, AnyHTTPException):
            return _say(site, request, error.status_code, str(error.detail))
        assert isinstance(error, GangplanError)  # noqa: S101  it is called for these two
        return _say(site, request, status_of(error), str(error))

    app.add_exception_handler(GangplanError, failed)
    app.add_exception_handler(AnyHTTPException, failed)
    return app


def _add_routes(app: FastAPI, site: Site) -> None:
    """Add what is looked at, and what changes something: for the page itself alone, never for another site's form."""
    ledger, models = LedgerPages(site=site), ModelPages(site=site)
    plans = PlanPages(site=site, models=models)
    pages: dict[str, Callable[..., object]] = {
        "/": ledger.now,
        "/find": ledger.find,
        "/quota": ledger.quota,
        "/what-if": ledger.what_if,
        "/reservations": ledger.listing,
        "/reservations/{id}": ledger.reservation,
        "/models": models.models,
        "/models/{version}": models.model,
        "/models/{version}/report": models.report,
        "/demand": plans.demand,
        "/plans": plans.plans,
        "/plans/{id}": plans.plan,
        "/report": plans.report,
        "/events": lambda: _events(site),
        "/static/{name}": _static,
    }
    writes: dict[str, Callable[..., object]] = {
        "/reservations/{id}/cancel": ledger.cancel,
        "/models/{version}/decision": models.decide,
        "/plans/{id}/decision": plans.decide,
    }
    for path, handler in pages.items():
        app.get(path, response_model=None)(handler)
    for path, handler in writes.items():
        app.post(path, response_model=None, dependencies=[Depends(require_own_page)])(handler)


def require_own_page(request: Request) -> None:
    """Refuse a write that did not come from a page of the same origin, or whose body a plain form could have sent."""
    if request.headers.get("sec-fetch-site") != "same-origin":
        raise HTTPException(403, "sec-fetch-site: a write must come from gangplan's own page")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "content-type: a write must be application/json")


def status_of(error: GangplanError) -> int:
    """Return the HTTP status that says what kind of error it is."""
    kinds = [status for kind, status in _STATUS.items() if isinstance(error, kind)]
    return kinds[0] if kinds else HTTPStatus.CONFLICT


def _events(site: Site) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(site.live.changes(), media_type="text/event-stream", headers=headers)


def _static(name: str) -> FileResponse:
    """Return a script; its address has its stamp, so that it may be kept."""
    if name not in STATIC:
        raise HTTPException(404, f"{name}: there is no such file")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(HERE / "static" / name, media_type=STATIC[name], headers=headers)


class Headers:
    """Middleware: the browser may run and fetch nothing but what is ours, and keeps no page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers that an answer does not have yet."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)


def _say(site: Site, request: Request, status: int, words: str) -> HTMLResponse | JSONResponse:
    """Answer with an error: as a page for a person who looks, as JSON for all others."""
    looks = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not looks or not hasattr(request.state, "visitor"):
        return JSONResponse({"detail": words}, status)
    page = site.render(request, "error.html.j2", "Not shown", words=words, status=status)
    page.status_code = status
    return page
