"""Import a package's names when they are first used, and name the extra that is missing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]

from gangplan.errors import MissingExtraError

_MODULES = {
    "forecast": ("polars", "mlflow", "lightgbm", "matplotlib", "jinja2", "httpx", "numpy"),
    "plan": ("pyomo", "highspy"),
    "postgres": ("psycopg",),
    "kubernetes": ("kubernetes", "urllib3"),
    "cloud": ("boto3", "botocore", "google"),
    "serve": ("fastapi", "starlette"),
    "airflow": ("airflow",),
    "kfp": ("kfp",),
}
_EXTRA_OF = {module: extra for extra, modules in _MODULES.items() for module in modules}


def needed_extras() -> Mapping[str, str]:
    """Return the extra that brings each optional module."""
    return _EXTRA_OF


@contextmanager
def needs_extras() -> Generator[None]:
    """Turn the ImportError of an optional library into an error that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in _EXTRA_OF:
            raise
        raise MissingExtraError(module, _EXTRA_OF[module]) from error


def lazy_face(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package, which import a name of its stub when it is first used.

    The stub (`__init__.pyi`) is the only list of the package's public names. Source: Scientific Python, SPEC 1.
    """
    load, names, _ = lazy_loader.attach_stub(package, file)  # pyright: ignore[reportUnknownVariableType]

    def load_or_name_the_extra(name: str) -> Any:
        with needs_extras():
            return load(name)

    return load_or_name_the_extra, names
