"""The first files of a home folder: settings with their defaults, and a fleet."""

from __future__ import annotations

from pathlib import Path

import yaml

from gangplan import reserve
from gangplan.clock import HOUR, floor_hour
from gangplan.config import Settings, read_fleet, write_atomic, write_fleet
from gangplan.errors import InputError
from gangplan.extras import needs_extras
from gangplan.types import LAB, CapacityCalendar, CapacityInterval, Fleet, PlanId

STARTER = Fleet(pools=(LAB,), nodes={LAB.name: LAB.max_nodes})


def initialise(settings: Settings, *, from_telemetry: bool, force: bool) -> tuple[Path, ...]:
    """Write gangplan.yaml and a fleet file, publish the fleet as the first calendar; return the written files."""
    fleet = draft(settings) if from_telemetry else STARTER
    files = (settings.home / "gangplan.yaml", settings.fleet_file)
    present = [path for path in files if path.exists()]
    if present and not force:
        raise InputError("home", ", ".join(map(str, present)), "is there already: give --force to write over it")
    write_atomic(files[0], _defaults(settings))
    write_fleet(files[1], fleet)
    publish_fleet(settings, fleet)
    return files


def ensure_fleet(settings: Settings) -> Fleet:
    """Return the fleet of the settings; without a file, draft one from the telemetry and write it."""
    if not settings.fleet_file.exists():
        write_fleet(settings.fleet_file, draft(settings))
    return read_fleet(settings.fleet_file)


def draft(settings: Settings) -> Fleet:
    """Return a fleet that would serve the telemetry in MLflow."""
    with needs_extras():
        from gangplan import plan, telemetry
        from gangplan.tracking import open_store
    catalogue = plan.read_catalogue(settings.catalogue_file)
    return plan.draft_fleet(telemetry.read_usage(open_store(settings), settings.clock()), catalogue)


def publish_fleet(settings: Settings, fleet: Fleet) -> None:
    """Publish the fleet's running nodes as a calendar, so that slots can be reserved before there is a plan."""
    start = floor_hour(settings.clock())
    end = start + settings.horizon_hours * HOUR
    intervals = tuple(
        CapacityInterval(pool=pool.name, start=start, end=end, nodes=fleet.nodes.get(pool.name, pool.min_nodes))
        for pool in fleet.pools
    )
    plan_id = PlanId(f"fleet-{start:%Y%m%dT%H%M}")
    with reserve.open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        ledger.publish(CapacityCalendar(plan_id=plan_id, pools=fleet.pools, intervals=intervals))


def _defaults(settings: Settings) -> str:
    """Return the text of gangplan.yaml: every field with its meaning and its default, commented out."""
    lines = ["# gangplan's settings. The environment (GANGPLAN_<FIELD>) wins over this file."]
    for name, field in type(settings).model_fields.items():
        if name in ("home", "ledger", "mlflow", "fleet", "targets", "now"):
            continue
        value = yaml.safe_dump(getattr(settings, name)).splitlines()[0]
        lines.append(f"# {field.description}\n# {name}: {value}")
    return "\n".join([*lines, "{}", ""])
