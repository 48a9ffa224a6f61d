"""A Kubeflow Pipelines server, by KFP's own client: each call has a time limit, and each failure our own error."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import kfp
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH, ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiClient, ApiException, V2beta1Experiment, V2beta1RecurringRun, V2beta1Run

from gangplan.errors import (
    ConflictError,
    ForbiddenError,
    GangplanError,
    InputError,
    NotFoundError,
    RejectedError,
    UnavailableError,
)
from gangplan.urls import shown

PATIENCE_S = 30
"""Seconds within which the server must answer a call."""

_CONNECT_S = 5
_RETRIES = urllib3.Retry(
    total=3, connect=2, read=False, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
)
"""A call is made again where it was not sent, or where the server failed and a second call has no second effect."""

_PAGE = 100


class Server:
    """The calls that gangplan makes of KFP's API (v2beta1); the answers are its models, which have no types."""

    def __init__(self, client: kfp.Client, *, namespace: str = "", patience_s: int = PATIENCE_S) -> None:
        self._client: Any = client
        self._namespace = namespace or client.get_user_namespace()
        self._patience_s = patience_s
        self.address = shown(_api(client).configuration.host)
        self.version = self._version()

    def _version(self) -> str:
        """Return the version that the server tells: its definitions leave it out, and its answer has it."""
        answer = self._ask(self._client.healthzs.healthz_service_get_healthz, _preload_content=False)
        try:
            health = json.loads(answer.data)
            _ = health["multi_user"]
        except (ValueError, KeyError, TypeError):
            remedy = (
                "answers with something else than the API of Kubeflow Pipelines, such as a page to log in: "
                "give the address of ml-pipeline or of its UI, and log in as KFP's client does"
            )
            raise InputError("host", self.address, remedy) from None
        return str(health.get("tag_name") or "unknown")

    # ------------------------------------------------------------ experiments and runs

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made where there is none."""
        if found := self._experiment(name):
            return found
        body = V2beta1Experiment(display_name=name, namespace=self._namespace or None)
        try:
            return self._ask(self._client.experiments.experiment_service_create_experiment, body).experiment_id
        except ConflictError:  # somebody else made it meanwhile
            return self._experiment(name)

    def _experiment(self, name: str) -> str:
        calls = self._client.experiments
        found = self._list(calls.experiment_service_list_experiments, "experiments", name=name)
        return next((each.experiment_id for each in found), "")

    def create_run(self, body: V2beta1Run) -> Any:
        """Start a run."""
        return self._ask(self._client.runs.run_service_create_run, body)

    def run(self, run_id: str) -> Any:
        """Return a run with its steps."""
        return self._ask(self._client.runs.run_service_get_run, run_id)

    def runs(self, name: str = "") -> Iterator[Any]:
        """Return runs, the newest first; all, or those of a name."""
        return self._list(self._client.runs.run_service_list_runs, "runs", name=name)

    def terminate(self, run_id: str) -> None:
        """Ask for the end of a run."""
        self._ask(self._client.runs.run_service_terminate_run, run_id)

    # ------------------------------------------------------------ recurring runs

    def recurring_runs(self, name: str = "") -> Iterator[Any]:
        """Return recurring runs, the newest first; all, or those of a name."""
        return self._list(
            self._client.recurring_runs.recurring_run_service_list_recurring_runs, "recurring_runs", name=name
        )

    def create_recurring_run(self, body: V2beta1RecurringRun) -> Any:
        """Make a recurring run."""
        return self._ask(self._client.recurring_runs.recurring_run_service_create_recurring_run, body)

    def enable(self, recurring_run_id: str, enabled: bool) -> None:
        """Let a recurring run start runs, or keep it from it."""
        calls = self._client.recurring_runs
        switch = calls.recurring_run_service_enable_recurring_run
        self._ask(switch if enabled else calls.recurring_run_service_disable_recurring_run, recurring_run_id)

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Delete a recurring run; one that is gone already is as wanted."""
        try:
            self._ask(self._client.recurring_runs.recurring_run_service_delete_recurring_run, recurring_run_id)
        except NotFoundError:
            return

    # ------------------------------------------------------------ calls

    def _list(self, call: Callable[..., Any], what: str, *, name: str) -> Iterator[Any]:
        """Return what a call lists, page by page, the newest first."""
        given = {"page_size": _PAGE, "sort_by": "created_at desc"}
        if self._namespace:
            given["namespace"] = self._namespace
        if name:
            predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
            given["filter"] = json.dumps({"predicates": [predicate]})
        token = ""
        while True:
            page = self._ask(call, **given, page_token=token)
            yield from getattr(page, what) or ()
            token = page.next_page_token
            if not token:
                return

    def _ask(self, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Make a call; its body goes by position, as its name differs between KFP's versions."""
        limits = (_CONNECT_S, self._patience_s)
        return _asked(lambda: call(*given, **named, _request_timeout=limits), self.address, self._patience_s)


def connect(host: str = "", *, namespace: str = "", patience_s: int = PATIENCE_S) -> Server:
    """Connect to a KFP server: at this address, else as KFP's own client finds one and logs in.

    A token that Kubernetes keeps in a file (`KF_PIPELINES_SA_TOKEN_PATH`) is read anew for each call.

    Raises
    ------
    InputError
        There is no address, and none can be found.
    UnavailableError
        The server does not answer.
    """
    _require_somewhere(host)
    token = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    credentials = ServiceAccountTokenVolumeCredentials() if host and token.is_file() else None
    with warnings.catch_warnings(), redirect_stdout(StringIO()):  # it warns, and prints, at each start
        warnings.simplefilter("ignore")
        client = _asked(lambda: _Client(host=host or None, credentials=credentials), shown(host) or "KFP", patience_s)
        _api(client).rest_client.pool_manager.connection_pool_kw["retries"] = _RETRIES
    return Server(client, namespace=namespace, patience_s=patience_s)


class _Client(kfp.Client):
    """KFP's client, which asks at its start for a minute whether the server is well, and logs each failure whole."""

    def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
        """Ask once."""
        calls: Any = self
        _api(self).rest_client.pool_manager.connection_pool_kw["retries"] = _RETRIES
        return calls.healthzs.healthz_service_get_healthz(_request_timeout=(_CONNECT_S, PATIENCE_S))


def _api(client: kfp.Client) -> ApiClient:
    """Return what makes the calls of KFP's client."""
    calls: Any = client
    return calls.healthzs.healthz_service_get_healthz.__self__.api_client


def _require_somewhere(host: str) -> None:
    """Refuse to go on without an address: KFP's client would try this machine."""
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    known = os.environ.get("KF_PIPELINES_ENDPOINT") or os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host and not known and not kubeconfig.is_file():
        remedy = "names no Kubeflow Pipelines, and there is no kubeconfig: give --host or set GANGPLAN_KFP_HOST"
        raise InputError("host", host, remedy)


def _asked(call: Callable[[], Any], address: str, patience_s: int) -> Any:
    try:
        return call()
    except ApiException as error:
        raise _error(error, address) from None
    except urllib3.exceptions.TimeoutError:
        raise UnavailableError(f"KFP at {address} did not answer within {patience_s} s: try again") from None
    except urllib3.exceptions.HTTPError as error:
        why = _cause(error)
        words = f"KFP at {address} does not answer ({why}): check --host, and that a port-forward runs"
        raise UnavailableError(words) from None


def _cause(error: urllib3.exceptions.HTTPError) -> str:
    """Return what kept a call from the server, without urllib3's objects in it."""
    reason = getattr(error, "reason", None) or error
    return str(reason).rpartition(": ")[2] or type(reason).__name__


def _error(error: ApiException, address: str) -> GangplanError:
    """Return the error that an answer means, with the server's own words."""
    said = _words(error)
    if error.status == 401:
        return ForbiddenError(f"KFP at {address} wants a login (401){said}: log in as KFP's client does, see its docs")
    if error.status == 403:
        return ForbiddenError(f"KFP at {address} does not allow it (403){said}: ask for rights in the namespace")
    if error.status == 404:
        return NotFoundError(f"KFP at {address} has no such thing (404){said}")
    if error.status == 409:
        return ConflictError(f"KFP at {address} has it already (409){said}")
    if error.status and 400 <= error.status < 500:
        return RejectedError(f"KFP at {address} refuses it ({error.status}){said}")
    return UnavailableError(f"KFP at {address} failed ({error.status or error.reason}){said}: try again")


def _words(error: ApiException) -> str:
    """Return the server's words, in one line of bearable length; empty where it has none of its own."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {' '.join(str(message).split())[:300]}"
