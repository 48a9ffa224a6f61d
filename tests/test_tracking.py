"""The MLflow store: tables come back as they went, and half runs are never read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from gangplan.errors import InputError, NotFoundError
from gangplan.tracking import TELEMETRY, Store, table_sha256

FRAME = pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]})


def test_table_comes_back_whole(mlflow_store: Store) -> None:
    """A logged table is read back with the same values, and its sha256 is on the run."""
    with mlflow_store.run(TELEMETRY, "one", {"kind": "import"}) as run_id:
        digest = mlflow_store.log_table(run_id, "demand", FRAME)
    run = mlflow_store.latest(TELEMETRY, {"kind": "import"}, remedy="")
    assert run.data.tags["sha256.demand"] == digest == table_sha256(FRAME)
    assert mlflow_store.read_table(run.info.run_id, "demand").equals(FRAME)


def test_changed_table_is_refused(mlflow_store: Store) -> None:
    """A table that was changed behind our back is not used."""
    with mlflow_store.run(TELEMETRY, "one", {}) as run_id:
        mlflow_store.log_table(run_id, "demand", FRAME)
    assert mlflow_store.folder is not None
    (file,) = mlflow_store.folder.rglob("demand.parquet")
    FRAME.with_columns(a=pl.Series([1.0, 3.0])).write_parquet(file)
    with pytest.raises(InputError, match="sha256 differs"):
        mlflow_store.read_table(run_id, "demand")


def test_half_run_is_never_read(mlflow_store: Store) -> None:
    """A run whose writer failed, or died, is not the newest finished one."""

    def fail() -> None:
        with mlflow_store.run(TELEMETRY, "failed", {}):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    mlflow_store.client.create_run(mlflow_store.experiment(TELEMETRY), run_name="killed")
    with pytest.raises(NotFoundError, match="run `gangplan ingest`"):
        mlflow_store.latest(TELEMETRY, remedy="run `gangplan ingest`")


def test_sha256_sees_every_value() -> None:
    """One changed value anywhere, a renamed column or another type gives another sha256."""
    long = pl.DataFrame({"a": range(50_000)})
    changed = long.with_columns(pl.when(pl.col("a") == 25_000).then(0).otherwise("a").alias("a"))
    frames = (long, changed, long.rename({"a": "b"}), long.cast(pl.Float64))
    assert len({table_sha256(frame) for frame in frames}) == 4
    assert table_sha256(long) == table_sha256(pl.DataFrame({"a": range(50_000)}))


@pytest.mark.parametrize("uri", ["file:///tmp/x", "nonsense", "ftp://x"])
def test_wrong_uri_is_named(uri: str) -> None:
    """What is no tracking URI is refused with an example of one."""
    with pytest.raises(InputError, match="is no MLflow tracking URI"):
        _ = Store(uri=uri).client


def test_artifacts_stay_beside_the_database(
    mlflow_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written to the working folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with mlflow_store.run(TELEMETRY, "one", {}) as run_id:
        mlflow_store.log_table(run_id, "demand", FRAME)
    assert list(elsewhere.iterdir()) == []
