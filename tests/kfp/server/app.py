"""KFP's API over HTTP: FastAPI checks each request and each answer by the definitions, a `Backend` keeps the state."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from inspect import Parameter as Argument, Signature
from typing import Any

import uvicorn
from fastapi import Body, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from tests.kfp.server.backend import Backend, Object, Refused, found, listed
from tests.kfp.server.definitions import Route, routes, type_of

PLACES: dict[str, Any] = {"path": Path, "query": Query, "body": Body}


class Double:
    """The double's address, and the backend behind it, which each test replaces by a fresh one."""

    def __init__(self) -> None:
        self.backend = Backend()
        self.url = ""


def handlers(b: Backend) -> dict[str, Callable[..., Any]]:
    """Return what answers each call that is played; the others are answered with 501."""

    def all_of(there: dict[str, Object], what: str) -> Callable[..., Object]:
        def answer(experiment_id: str | None = None, **given: Any) -> Object:
            return listed(there, what, given, lambda each: experiment_id in (None, each["experiment_id"]))

        return answer

    return {
        "healthz_service_get_healthz": lambda: {"multi_user": b.multi_user, "pipeline_store": "database"},
        "experiment_service_create_experiment": b.create_experiment,
        "experiment_service_get_experiment": lambda experiment_id: found(b.experiments, experiment_id, "experiment"),
        "experiment_service_list_experiments": all_of(b.experiments, "experiments"),
        "run_service_create_run": lambda run, experiment_id=None: b.create_run(run),
        "run_service_get_run": lambda run_id, experiment_id=None: b.get_run(run_id),
        "run_service_list_runs": all_of(b.runs, "runs"),
        "run_service_terminate_run": lambda run_id, experiment_id=None: b.terminate_run(run_id),
        "recurring_run_service_create_recurring_run": b.create_recurring_run,
        "recurring_run_service_get_recurring_run": lambda recurring_run_id: found(
            b.recurring_runs, recurring_run_id, "recurring run"
        ),
        "recurring_run_service_list_recurring_runs": all_of(b.recurring_runs, "recurringRuns"),
        "recurring_run_service_enable_recurring_run": lambda recurring_run_id: b.switch(recurring_run_id, "ENABLED"),
        "recurring_run_service_disable_recurring_run": lambda recurring_run_id: b.switch(recurring_run_id, "DISABLED"),
        "recurring_run_service_delete_recurring_run": lambda recurring_run_id, propagation_policy=None: (
            b.recurring_runs.pop(found(b.recurring_runs, recurring_run_id, "recurring run")["recurring_run_id"]) and {}
        ),
    }


def application(double: Double) -> FastAPI:
    """Return the API with a route for each call of the definitions."""
    app = FastAPI()
    for route in routes():
        app.add_api_route(
            route.path.replace(".", "_"),
            endpoint(double, route),
            methods=[route.method],
            response_model=type_of(route.answer),
            response_model_exclude_none=True,
        )

    @app.middleware("http")
    async def misbehave(request: Request, call: Callable[..., Any]) -> Response:
        return trouble(double.backend, request) or await call(request)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(Refused(400, 3, f"{request.url.path}: {error.errors()}"))

    @app.exception_handler(Refused)
    async def no(request: Request, error: Refused) -> JSONResponse:
        return refused(error)

    return app


def endpoint(double: Double, route: Route) -> Callable[..., Any]:
    """Return the function of a route, whose signature is the definitions': by it FastAPI reads and checks requests."""
    known = {parameter.alias for parameter in route.parameters if parameter.place == "query"}

    def answer(request: Request, **given: Any) -> Any:
        if unknown := request.query_params.keys() - known:
            raise Refused(400, 3, f"{route.operation}: no parameter is called {', '.join(unknown)}")
        backend = double.backend
        if route.operation not in (handle := handlers(backend)):
            raise Refused(501, 12, f"the double does not play {route.operation}")
        if backend.slow in route.operation:
            backend.held.wait()
        if route.operation == "healthz_service_get_healthz":  # its real answer has more than the definitions
            whole = {"commit_sha": "unknown", "tag_name": backend.version, **handle[route.operation]()}
            return JSONResponse(whole)
        plain = {name: whole_body(value) for name, value in given.items() if value is not None}
        return handle[route.operation](**plain)

    arguments = [
        Argument(
            parameter.alias.replace(".", "_"),
            Argument.KEYWORD_ONLY,
            annotation=type_of(parameter.type),
            default=PLACES[parameter.place](... if parameter.required else None),
        )
        for parameter in route.parameters
        if parameter.place in PLACES  # files are read by no route that is played
    ]
    first = Argument("request", Argument.POSITIONAL_OR_KEYWORD, annotation=Request)
    answer.__signature__ = Signature([first, *arguments])  # pyright: ignore[reportFunctionMemberAccess]
    return answer


def whole_body(value: Any) -> Any:
    """Return a message as plain values, without the fields that were not given."""
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value


def trouble(backend: Backend, request: Request) -> Response | None:
    """Answer instead of the API where a test wants it to fail."""
    backend.calls.append((request.method, request.url.path))
    if backend.token and request.headers.get("authorization") != f"Bearer {backend.token}":
        return refused(Refused(401, 16, "Request is not authenticated"))
    if backend.page:
        return Response(backend.page, media_type="text/html")
    return refused(backend.failures.pop(0)) if backend.failures else None


def refused(error: Refused) -> JSONResponse:
    """Return an error as the API server writes it."""
    body = {"error": str(error), "code": error.code, "message": str(error), "details": []}
    return JSONResponse(body, status_code=error.status)


@contextmanager
def serving() -> Generator[Double]:
    """Serve the double on a free port of this machine."""
    double = Double()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(application(double), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        double.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield double
        double.backend.held.set()
        server.should_exit = True
        thread.join()
