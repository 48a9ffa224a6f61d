"""gangplan's provider for Airflow."""

from __future__ import annotations

from typing import Any

from gangplan import __version__


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow's provider manager."""
    return {
        "package-name": "gangplan",
        "name": "gangplan",
        "description": "Reserve gangs of GPU slots.",
        "versions": [__version__],
    }
