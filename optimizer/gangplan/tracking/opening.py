"""From the settings to an open store; a server is asked once before MLflow's client retries for minutes."""

from __future__ import annotations

from typing import Any

from mlflow.utils import credentials, rest_utils

from gangplan.config import Settings
from gangplan.errors import InputError, UnavailableError
from gangplan.tracking.faults import CREDENTIALS, naming_faults, refused
from gangplan.tracking.store import Store
from gangplan.urls import CLEAR, is_http, shown, sqlite_file, unambiguous

_ANSWER_S = 10
_credentials: Any = credentials  # MLflow's HTTP client has no types
_http: Any = rest_utils


def open_store(settings: Settings, *, create: bool = False) -> Store:
    """Return the store of the settings; a file that does not exist is created only if `create` is true."""
    store = Store(uri=settings.mlflow_uri)
    file = sqlite_file(store.uri)
    if file is not None and not create and not file.exists():
        raise InputError("mlflow", store.uri, "is not there: run `gangplan ingest` first, or name another store")
    if is_http(store.uri):
        require_answer(store.uri)
    elif file is None:
        _ = store.client  # it connects, so that a database that is down is named before any work
    return store


def require_answer(uri: str, field: str = "mlflow") -> None:
    """Ask a server for one experiment, with the credentials that MLflow's own client sends.

    Raises
    ------
    InputError
        It refuses us, or it is no tracking server.
    UnavailableError
        It does not answer.
    """
    if not unambiguous(uri):
        raise InputError(field, shown(uri), CLEAR)
    if "?" in uri or "#" in uri:
        raise InputError(field, shown(uri), f"has parameters, which MLflow's address has not: {CREDENTIALS}")
    with naming_faults(uri, field):
        answer = _ask(uri)
    if answer.status_code in (401, 403):
        raise refused(uri, field, answer.status_code, answer.text[:500])
    if answer.status_code >= 500 or answer.status_code == 429:
        raise UnavailableError(f"{field}: {shown(uri)} answered {answer.status_code}: try again")
    if answer.status_code != 200 or not answer.text.lstrip().startswith("{"):
        remedy = f"does not speak MLflow's API (it answered {answer.status_code}): check the address, or {CREDENTIALS}"
        raise InputError(field, shown(uri), remedy)


def _ask(uri: str) -> Any:
    """Send one request, without retries."""
    return _http.http_request(
        _credentials.get_default_host_creds(uri),
        "/api/2.0/mlflow/experiments/search",
        "GET",
        params={"max_results": 1},
        max_retries=0,
        timeout=_ANSWER_S,
        raise_on_status=False,
    )
