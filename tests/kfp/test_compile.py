"""The compiled YAML: the same bytes from the same source, nothing installed at run time, no effect ever cached."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from kfp.compiler import Compiler
from tests.kfp.specs import train

from gangplan_kfp.compile import COMPILED, compile_all
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


def without_sdk(path: Path) -> str:
    """Return a compiled file without the version of the SDK that wrote it."""
    return re.sub(r"^sdkVersion: .*$", "sdkVersion: any", path.read_text(), flags=re.MULTILINE)


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
    assert without_sdk(compiled / f"{name}.yaml") == without_sdk(GOLDEN / f"{name}.yaml")


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


def test_image_is_the_clusters_choice(tmp_path: Path) -> None:
    """GANGPLAN_KFP_IMAGE at compile time names the image of every step."""
    environment = {**os.environ, "GANGPLAN_KFP_IMAGE": "ours/gangplan-python:7"}
    subprocess.run([sys.executable, "-m", "gangplan_kfp.compile", str(tmp_path)], env=environment, check=True)
    spec = read(tmp_path / "reserved_training.yaml")
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert images == {"ours/gangplan-python:7"}
