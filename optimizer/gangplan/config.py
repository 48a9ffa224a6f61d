"""Settings, parsed once at the edge: environment (GANGPLAN_*), then gangplan.yaml in the home folder, then defaults."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from gangplan.clock import Clock, parse_utc, require_utc, system_clock
from gangplan.errors import InputError
from gangplan.types import Fleet
from gangplan.urls import sqlite_url
from gangplan.yaml_files import read_yaml, refused_field


class _StrictYaml(YamlConfigSettingsSource):
    """Reads gangplan.yaml as all YAML files are read: a key that stands twice is refused."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return read_yaml(file_path, file_path.name).body or {}


class Settings(BaseSettings):
    """What a cycle needs to know; every field can be given as GANGPLAN_<FIELD> or in gangplan.yaml."""

    model_config = SettingsConfigDict(env_prefix="GANGPLAN_", extra="forbid", frozen=True)

    home: Path = Field(Path(".gangplan"), description="Folder of everything that gangplan keeps.")
    ledger: str = Field(
        "", repr=False, description="URL of the reservation ledger; default: SQLite in the home folder."
    )
    mlflow: str = Field("", repr=False, description="MLflow tracking URI; default: SQLite in the home folder.")
    fleet: Path = Field(Path(), description="Fleet file; default: fleet.yaml in the home folder.")
    targets: Path = Field(Path(), description="Where pools live; default: targets.yaml beside the fleet file, if any.")
    telemetry: str = Field("", repr=False, description="Where the DAGs read telemetry, as `gangplan ingest` takes it.")
    telemetry_until: str = Field("", description="When a file of telemetry was exported: now, or a time.")
    horizon_hours: int = Field(168, ge=24, le=24 * 90, description="How far ahead to forecast and to plan.")
    backtest_origins: int = Field(7, ge=2, le=60, description="Rolling origins of the back-test, 24 h apart.")
    promotion: Literal["gate", "person"] = Field("gate", description="Who makes a champion: gate or person.")
    publication: Literal["plan", "person"] = Field("plan", description="Who lets a plan hold: itself or a person.")
    approve_above: float | None = Field(None, ge=0, description="A plan that costs more waits for a person's approval.")
    reviewers: tuple[str, ...] = Field(
        (), description="Ids of Airflow's users who may decide on models, plans; none: all."
    )
    shadow_days: float = Field(0.0, ge=0, le=90, description="Days that a challenger forecasts unheeded first.")
    late_after_hours: float = Field(6.0, ge=1, lt=168, description="Age at which telemetry is late: plans warn of it.")
    stale_after_hours: float = Field(72.0, ge=1, lt=168, description="Age at which telemetry is too old to plan from.")
    nowcast: bool = Field(True, description="Correct the next hours of series whose newest hour stands out.")
    scenarios: int = Field(9, ge=1, le=50, description="Demand paths that the plan is solved over.")
    shortage_price: float = Field(20.0, gt=0, description="Money per GPU-hour that could not be served (throughput).")
    budget: float | None = Field(None, gt=0, description="Money that the plan may spend over its horizon.")
    mip_gap: float = Field(0.01, gt=0, lt=1, description="Proven gap at which the solver may stop.")
    work_limit: float = Field(60.0, gt=0, description="Work that the solver may do; a unit is about a second.")
    time_limit_s: float = Field(600.0, gt=0, description="Seconds that the solver may take on a slow machine.")
    mapping: str = Field("", description="How files of telemetry are read: a mapping's name, or its file.")
    zone: str = Field("", description="Time zone of times in files that do not say their offset.")
    decimal: Literal["", ".", ","] = Field("", description="Decimal sign of numbers in files, where both may be.")
    seed: int = Field(7, ge=0, description="Seed of every random choice.")
    claim_within_s: float = Field(120.0, gt=0, le=86400, description="Seconds in which a step must claim its grant.")
    release_grace_s: float = Field(15.0, ge=0, le=600, description="Seconds a release waits for killed work.")
    airflow: str = Field("", description="Name of this Airflow, where several of them share a ledger.")
    airflow_api: str = Field(
        "", repr=False, description="Airflow's address with a user who may read runs; the controller asks it."
    )
    kfp_host: str = Field(
        "",
        repr=False,
        description="Address of Kubeflow Pipelines, for `gangplan kfp`; default: as KFP's client finds it.",
    )
    owner: str = Field(
        "", max_length=1900, description="Whose what is reserved here is, like kubernetes/<namespace>/Job/<name>/<uid>."
    )
    now: datetime | None = Field(None, description="The moment that all stages work as of; default: the present.")

    @field_validator("now", mode="before")
    @classmethod
    def _moment(cls, given: object) -> object:
        """Read a moment that says that it is UTC; an empty text gives none."""
        if isinstance(given, str):
            return parse_utc("now", given) if given.strip() else None
        return given if given is None else require_utc("now", given)

    @model_validator(mode="after")
    def _alone(self) -> Self:
        """Refuse a moment for a ledger that others use at the present: their leases would end by it."""
        if self.ledger.startswith(("kueue:", "postgresql")):
            self.require_present("a ledger on Kueue or PostgreSQL")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the command line win over the environment, and the environment over the file."""
        home = Path(str(init_settings().get("home") or env_settings().get("home") or ".gangplan"))
        file = home / "gangplan.yaml"
        return init_settings, env_settings, _StrictYaml(settings_cls, yaml_file=file)

    @property
    def clock(self) -> Clock:
        """The clock that all stages work by: it stands at `now` where that is set, else it is the machine's."""
        now = self.now
        return system_clock if now is None else lambda: now

    def require_present(self, what: str) -> None:
        """Refuse the moment `now` for what serves others, such as a server that ends leases."""
        if self.now is not None:
            remedy = f"cannot be given to {what}, which serves others at the present: leave it out"
            raise InputError("now", self.now.isoformat(), remedy)

    @property
    def ledger_url(self) -> str:
        """The ledger's URL with its default filled in."""
        return self.ledger or sqlite_url(self.home.resolve() / "ledger.db")

    @property
    def mlflow_uri(self) -> str:
        """The MLflow tracking URI with its default filled in."""
        return self.mlflow or sqlite_url(self.home.resolve() / "mlflow" / "mlflow.db")

    @property
    def fleet_file(self) -> Path:
        """The fleet file with its default filled in."""
        return self.fleet if self.fleet != Path() else self.home / "fleet.yaml"

    @property
    def targets_file(self) -> Path | None:
        """The targets file: the one that is set, or targets.yaml beside the fleet file; none where neither is."""
        if self.targets != Path():
            return self.targets
        beside = self.fleet_file.with_name("targets.yaml")
        return beside if beside.exists() else None

    @property
    def plan_policy_file(self) -> Path:
        """The plan's policy; where there is no such file, the default policy holds."""
        return self.home / "plan.yaml"

    @property
    def catalogue_file(self) -> Path:
        """Accelerators of one's own; where there is no such file, the package's catalogue holds."""
        return self.home / "accelerators.yaml"

    @property
    def curves_file(self) -> Path:
        """What work does under caps, as measured; where there is no such file, nothing is capped."""
        return self.home / "power.yaml"

    @property
    def carbon_file(self) -> Path:
        """The hourly carbon of grids; where there is no such file, the fleet file's figures and yearly means hold."""
        return self.home / "carbon.csv"

    @property
    def report_file(self) -> Path:
        """Where the report goes."""
        return self.home / "report" / "index.html"

    @property
    def attempt(self) -> str:
        """Who asks for what is reserved here, as ledgers take it; empty where no owner is set."""
        return f"{self.owner.strip('/')}/1" if self.owner else ""

    @property
    def claim_within(self) -> timedelta:
        """The time in which a pipeline's step must claim its grant, as a duration."""
        return timedelta(seconds=self.claim_within_s)

    @property
    def release_grace(self) -> timedelta:
        """How long a release waits for the processes of killed work, as a duration."""
        return timedelta(seconds=self.release_grace_s)

    @property
    def horizon(self) -> timedelta:
        """The horizon as a duration."""
        return timedelta(hours=self.horizon_hours)


def load_settings(**given: Any) -> Settings:
    """Read the settings; what is given here (and not None) wins. A wrong value names its field."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"])) or "settings"
        raise refused_field(error, name, what="no setting", known=Settings.model_fields) from None


def present() -> datetime:
    """Return the moment that this process works as of: the setting `now`, else the machine's present, in UTC."""
    return load_settings().clock()


def read_fleet(path: Path) -> Fleet:
    """Read a fleet file: `pools`, each with the fields of `Pool`, and `nodes`, the running count by pool."""
    document = read_yaml(path, "fleet", missing="is not there: write one with `gangplan init`")
    return document.read_as(_fleet(), "fleet", qualified=False)


@cache
def _fleet() -> TypeAdapter[Fleet]:
    """Return what reads a fleet; made when one is read, as most that reads the settings reads none."""
    return TypeAdapter(Fleet)


def write_fleet(path: Path, fleet: Fleet) -> None:
    """Write a fleet file whole or not at all."""
    write_atomic(path, fleet_text(fleet))


def fleet_text(fleet: Fleet) -> str:
    """Return the text of a fleet file."""
    pools = [{**vars(pool), "kind": pool.kind.value} for pool in fleet.pools]
    body: dict[str, Any] = {"pools": pools, "nodes": dict(fleet.nodes)}
    if fleet.terms:
        body["terms"] = [vars(term) for term in fleet.terms]
    if fleet.committed_until:
        body["committed_until"] = dict(fleet.committed_until)
    return yaml.safe_dump(body, sort_keys=False)


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader, or a killed writer, never leaves half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
