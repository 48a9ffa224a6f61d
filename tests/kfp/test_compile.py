"""The compiled YAML: the same bytes from the same source, nothing installed at run time, no effect ever cached."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import dsl
from kfp.compiler import Compiler
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from tests.kfp.specs import train

import gangplan_kfp
from gangplan.errors import InputError
from gangplan_kfp import all_with_secret, with_secret
from gangplan_kfp.compile import COMPILED, OLDEST_SDK, compile_all
from gangplan_kfp.pipelines.reserved import reserved_gang

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "kfp_components" / "compiled"


def tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every task of a compiled pipeline that runs code, at any depth."""
    dags = [spec["root"]["dag"], *(part["dag"] for part in spec["components"].values() if "dag" in part)]
    for dag in dags:
        for name, task in dag["tasks"].items():
            if "dag" not in spec["components"][task["componentRef"]["name"]]:
                yield name, task


def read(path: Path) -> dict[str, Any]:
    """Read a compiled file."""
    return next(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh compilation."""
    folder = tmp_path_factory.mktemp("compiled")
    compile_all(folder)
    return folder


def test_golden_holds_every_file_and_no_other(compiled: Path) -> None:
    """The committed folder and a fresh compilation have the same files."""
    assert {path.name for path in GOLDEN.glob("*")} == {path.name for path in compiled.glob("*")}


@pytest.mark.parametrize("name", COMPILED)
def test_same_source_same_bytes(compiled: Path, name: str) -> None:
    """The committed file is what the source compiles to; `python -m gangplan_kfp.compile` writes it anew."""
    assert (compiled / f"{name}.yaml").read_text() == (GOLDEN / f"{name}.yaml").read_text()


def test_every_sdk_writes_the_same_bytes(compiled: Path) -> None:
    """No file names the SDK that wrote it: SDKs from the oldest that the extra allows on write the same otherwise."""
    assert {read(path)["sdkVersion"] for path in compiled.glob("*.yaml")} == {OLDEST_SDK}
    assert f"kfp>={OLDEST_SDK.removeprefix('kfp-').removesuffix('.0')}" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", COMPILED)
def test_each_file_is_of_the_schema(compiled: Path, name: str) -> None:
    """Every field is one that the pipeline's, the platform's and Kubernetes' part of the specification have."""
    spec, *platform = yaml.safe_load_all((compiled / f"{name}.yaml").read_text())
    json_format.ParseDict(spec, PipelineSpec())
    for part in platform:
        json_format.ParseDict(part, PlatformSpec())
        for config in part["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            json_format.ParseDict(config, KubernetesExecutorConfig())


def secrets_of(path: Path) -> dict[str, list[str]]:
    """Return the variables that each step of a compiled pipeline gets from the Secret `gangplan`."""
    spec, *platforms = yaml.safe_load_all(path.read_text())
    found: dict[str, list[str]] = {step: [] for step in spec["deploymentSpec"]["executors"]}
    for step, config in (platforms[0] if platforms else EMPTY)["platforms"]["kubernetes"]["deploymentSpec"][
        "executors"
    ].items():
        for given in config.get("secretAsEnv", []):
            assert given["secretName"] == "gangplan"
            found[step] += [key["envVar"] for key in given["keyToEnv"]]
    return found


PIPELINES = ("retrain_and_review", "plan_and_apply", "reserved_training")
EMPTY: dict[str, Any] = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}}


@pytest.mark.parametrize("keys", [["GANGPLAN_LEDGER", "GANGPLAN_MLFLOW"], ["GANGPLAN_MLFLOW", "GANGPLAN_TELEMETRY"]])
def test_each_step_of_a_pipeline_has_the_chosen_secret(tmp_path: Path, keys: list[str]) -> None:
    """GANGPLAN_KFP_SECRET at compile time brings it to every step, the release too; without it there is none."""
    named = "gangplan" if "GANGPLAN_LEDGER" in keys else f"gangplan:{','.join(keys)}"
    environment = {**os.environ, "GANGPLAN_KFP_SECRET": named}
    subprocess.run([sys.executable, "-m", "gangplan_kfp.compile", str(tmp_path)], env=environment, check=True)
    for name in PIPELINES:
        assert all(found == keys for found in secrets_of(tmp_path / f"{name}.yaml").values()), name
        assert not any(secrets_of(GOLDEN / f"{name}.yaml").values()), name


def test_an_authors_secret_has_to_be_there(tmp_path: Path) -> None:
    """`with_secret` names the author's Secret and keys; a pod without them does not start."""

    @dsl.pipeline(name="own-secret")
    def own_secret():
        learned = gangplan_kfp.record_feedback(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        with_secret(learned, "ours", ["GANGPLAN_MLFLOW"])

    Compiler().compile(own_secret, str(tmp_path / "own.yaml"))
    _, platform = yaml.safe_load_all((tmp_path / "own.yaml").read_text())
    (given,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-record-feedback"]["secretAsEnv"]
    assert given["secretName"] == "ours"
    assert set(given) == {"secretName", "secretNameParameter", "keyToEnv"}  # those that KFP 2.14 knows
    assert given["keyToEnv"] == [{"secretKey": "GANGPLAN_MLFLOW", "envVar": "GANGPLAN_MLFLOW"}]
    with pytest.raises(InputError, match="last line"):
        all_with_secret()


@pytest.mark.parametrize("name", COMPILED)
def test_nothing_is_installed_when_a_step_starts(compiled: Path, name: str) -> None:
    """The image brings everything: no compiled file calls an installer."""
    assert "pip" not in (compiled / f"{name}.yaml").read_text().replace("pipeline", "")


@pytest.mark.parametrize("name", COMPILED)
def test_no_step_is_cached(compiled: Path, name: str) -> None:
    """Every step has effects, so every one has caching disabled and this run's id as an input."""
    found = list(tasks(read(compiled / f"{name}.yaml")))
    assert found
    for task_name, task in found:
        assert task["cachingOptions"] == {}, task_name
        assert "run_id" in task["inputs"]["parameters"], task_name


def test_release_is_keyed_like_the_reservation(compiled: Path) -> None:
    """The exit task knows the run's id and the gang's name, as the reservation does, and no other step's output."""
    found = dict(tasks(read(compiled / "reserved_training.yaml")))
    given = {name: found[name]["inputs"]["parameters"] for name in ("reserve-gang", "release-gang")}
    for parameter in ("run_id", "name"):
        assert given["reserve-gang"][parameter] == given["release-gang"][parameter]
    assert given["release-gang"]["run_id"] == {"runtimeValue": {"constant": dsl.PIPELINE_JOB_ID_PLACEHOLDER}}
    assert found["release-gang"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert all("taskOutputParameter" not in value for value in given["release-gang"].values())


def test_two_gangs_in_one_pipeline(tmp_path: Path) -> None:
    """Two reservations of one run, one after the other, have keys and exit handlers of their own."""
    wish = {"tenant": "vision", "accelerators": ["h100"], "pods": 1, "gpus_per_pod": 8, "duration": "1h"}

    @dsl.pipeline(name="two-gangs")
    def two_gangs():
        with reserved_gang(name="first", **wish):
            train()
        with reserved_gang(name="second", **wish):
            train()

    Compiler().compile(two_gangs, str(tmp_path / "two.yaml"))
    found = dict(tasks(read(tmp_path / "two.yaml")))
    gangs = [task["inputs"]["parameters"] for name, task in found.items() if "gang" in name]
    names = [given["name"]["runtimeValue"]["constant"] for given in gangs]
    assert sorted(names) == ["first", "first", "second", "second"]


def test_image_is_the_clusters_choice_and_nothing_else_of_the_environment(tmp_path: Path) -> None:
    """GANGPLAN_KFP_IMAGE at compile time names the image of every step; no other variable gets into a file."""
    secret = "postgresql://ada:s3cret@host/db"  # noqa: S105 - made up
    others = {"GANGPLAN_LEDGER": secret, "GANGPLAN_MLFLOW": secret, "GANGPLAN_TELEMETRY": secret}
    environment = {**os.environ, **others, "GANGPLAN_KFP_IMAGE": "ours/gangplan-python:7"}
    subprocess.run([sys.executable, "-m", "gangplan_kfp.compile", str(tmp_path)], env=environment, check=True)
    spec = read(tmp_path / "reserved_training.yaml")
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert images == {"ours/gangplan-python:7"}
    assert all("s3cret" not in path.read_text() for path in tmp_path.glob("*.yaml"))
