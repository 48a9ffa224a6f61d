"""The plugin: what gangplan adds to Airflow's web server."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from gangplan_airflow import listener


class GangplanPlugin(AirflowPlugin):
    """Puts the page under /gangplan, for users who are logged in, and a link into the navigation; hears what ends."""

    name = "gangplan"
    listeners: ClassVar[list[Any]] = [listener]  # pyright: ignore[reportIncompatibleVariableOverride]
    external_views: ClassVar[list[Any]] = [  # pyright: ignore[reportIncompatibleVariableOverride]
        {
            "name": "GPU capacity",
            "href": "/gangplan/",
            "destination": "nav",
            "category": "browse",
            "url_route": "gangplan",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The web application, made when a web server asks: every worker loads the plugin, and the import costs 1 s."""
        from gangplan_airflow.web import make_web

        return [{"app": make_web(), "url_prefix": "/gangplan", "name": "gangplan"}]
