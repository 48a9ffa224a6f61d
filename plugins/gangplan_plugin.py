"""Drop-in for an Airflow whose plugins folder this is: the ledger and the report among Airflow's own pages.

An installed distribution brings the same plugin by its entry point, and Airflow refuses a plugin that comes twice.
"""

from importlib.metadata import entry_points

if not entry_points(group="airflow.plugins", name="gangplan"):
    from gangplan_airflow.plugin import GangplanPlugin  # noqa: F401 - the loader takes the plugins that it finds here
