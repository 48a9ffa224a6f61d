"""What goes wrong with an MLflow store, as errors of ours: of one line, without a password, with an exit code.

MLflow passes on what its libraries raise: of HTTP, of databases, of object stores. Each says in its own way that a
store is down or that it refuses us. What a caller can act on otherwise, such as a run that does not exist, stays
MLflow's own error.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.extras import needed_extras
from gangplan.urls import shown, without_secrets

CREDENTIALS = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or write them into the URL"
)
_REFUSED = (401, 403)
_LIBRARIES = {"requests", "urllib3", "botocore", "boto3", "s3transfer", "google", "azure", "psycopg", "sqlite3"}
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


@contextmanager
def naming_faults(uri: str, field: str = "mlflow") -> Generator[None]:
    """Raise UnavailableError where a store does not work, InputError where it refuses us; `field` is what named it."""
    try:
        yield
    except GangplanError:
        raise
    except Exception as error:
        named = _named(error, uri, field)
        if named is None:
            raise
        raise named from None  # its cause may show the password


def refused(uri: str, field: str, status: int, text: str = "") -> InputError:
    """Return the error about a server that does not let us in."""
    if "host" in text.lower() and "header" in text.lower():  # MLflow's own protection against DNS rebinding
        return InputError(field, shown(uri), f"refused us ({status}): name its host in the server's --allowed-hosts")
    return InputError(field, shown(uri), f"refused us ({status}): {CREDENTIALS}")


def _named(error: Exception, uri: str, field: str) -> GangplanError | None:
    """Return the error as ours, or none if it says something else of a store that works."""
    if isinstance(error, ModuleNotFoundError) and error.name not in needed_extras():
        return InputError(field, shown(uri), f"needs the package {error.name}: install it")
    chain = list(_chain(error))
    status = next((status for one in chain if (status := _status(one))), 0)
    down = [one for one in chain if _is_down(one)]
    words = " ".join(without_secrets(str((down or chain)[-1]), uri).split())[:240]
    if status in _REFUSED:
        return refused(uri, field, status, words)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return InputError(field, shown(uri), "has a certificate of an unknown CA: set MLFLOW_TRACKING_SERVER_CERT_PATH")
    if status >= 500 or (not status and down):
        return UnavailableError(f"mlflow: {shown(uri)} cannot be reached ({words}): try again")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    """Return the status of a server's answer, or 0 for what is none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of boto
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))  # pyright: ignore
    if response is not None:
        return int(getattr(response, "status_code", 0))
    if isinstance(error, MlflowException) and (hasattr(error, "json") or "failed with error code" in str(error)):
        return error.get_http_status_code()
    return 0


def _is_down(error: BaseException) -> bool:
    """Tell whether an error says that a store cannot be reached or used."""
    if isinstance(error, MlflowException):
        return error.error_code == "TEMPORARILY_UNAVAILABLE" or str(error).startswith("API request to http")
    library = type(error).__module__.partition(".")[0]
    if library == "sqlalchemy":
        return True
    return library in _LIBRARIES or (isinstance(error, OSError) and not isinstance(error, _MISSING))
