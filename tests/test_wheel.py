"""The wheel works where nothing else is installed: light by default, the provider and the components by their extra."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).parent / "uv"
HEAVY = ("lightgbm", "mlflow", "polars", "pyomo", "highspy")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("gangplan-*.whl")
    return file


def install(wheel: Path, extra: str, lock: str, folder: Path) -> Path:
    """Install the wheel with an extra into a clean environment, at the locked versions; return its bin folder."""
    environment = folder / (extra or "light")
    what = f"gangplan[{extra}] @ {wheel.as_uri()}" if extra else f"gangplan @ {wheel.as_uri()}"
    constraints = ROOT / "requirements" / f"{lock}.txt"
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, environment], check=True)
    command = [UV, "pip", "install", "-q", "--python", environment, "-c", constraints, what]
    subprocess.run(command, check=True, cwd=folder)
    return environment / "bin"


def call(*command: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout, with a home of its own."""
    environment = {**os.environ, "GANGPLAN_HOME": str(home), "AIRFLOW_HOME": str(home / "airflow"), "COLUMNS": "200"}
    environment.pop("PYTHONPATH", None)
    texts = [str(part) for part in command]
    return subprocess.run(texts, cwd=home, env=environment, capture_output=True, text=True, check=False)


def present(python: Path, modules: tuple[str, ...], home: Path) -> list[str]:
    """Return those of the modules that can be found in that environment."""
    code = f"import importlib.util as u; print([m for m in {modules!r} if u.find_spec(m)])"
    return list(eval(call(python, "-c", code, home=home).stdout))  # noqa: S307 - our own list


def test_light_install_reserves_and_names_what_is_missing(wheel: Path, tmp_path: Path) -> None:
    """Plain gangplan holds slots without a data or model library, and names the extra that training needs."""
    bin_ = install(wheel, "", "core", tmp_path)
    assert present(bin_ / "python", HEAVY, tmp_path) == []
    assert call(bin_ / "gangplan", "--version", home=tmp_path).stdout.startswith("gangplan ")
    assert call(bin_ / "gangplan", "init", home=tmp_path).returncode == 0
    asked = ("reserve", "--tenant", "a", "--pods", 2, "--gpus", 4, "--accelerator", "h100-lab", "--duration", "1h")
    granted = call(bin_ / "gangplan", *asked, "--json", home=tmp_path)
    assert '"state": "granted"' in granted.stdout, granted.stderr
    refused = call(bin_ / "gangplan", "train", home=tmp_path)
    assert refused.returncode == 2
    assert "pip install 'gangplan[" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_airflow_extra_is_a_provider_and_a_plugin(wheel: Path, tmp_path: Path) -> None:
    """`pip install gangplan[airflow]` gives Airflow the provider, its connection type and the plugin, still light."""
    bin_ = install(wheel, "airflow", "airflow", tmp_path)
    assert present(bin_ / "python", HEAVY, tmp_path) == []
    code = (
        "from airflow.providers_manager import ProvidersManager as M; m = M(); "
        "print(m.providers['gangplan'].version, 'gangplan' in m.hooks); "
        "from airflow.plugins_manager import get_plugin_info; print([p['name'] for p in get_plugin_info()])"
    )
    said = call(bin_ / "python", "-c", code, home=tmp_path)
    assert "True" in said.stdout, said.stderr
    assert "'gangplan'" in said.stdout, said.stderr


def test_kfp_extra_brings_the_components(wheel: Path, tmp_path: Path) -> None:
    """`pip install gangplan[kfp]` gives components that import and a pipeline that compiles, still light."""
    bin_ = install(wheel, "kfp", "kfp", tmp_path)
    assert present(bin_ / "python", HEAVY, tmp_path) == []
    code = "from gangplan_kfp import reserve_gang, release_gang, retrain_and_review, plan_and_apply; print('all there')"
    said = call(bin_ / "python", "-c", code, home=tmp_path)
    assert "all there" in said.stdout, said.stderr


def test_the_wheel_carries_types_stubs_and_pipelines(wheel: Path) -> None:
    """A user's type checker finds `py.typed` and each face's stub; the compiled pipelines come with the components."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in ("gangplan", "gangplan_airflow", "gangplan_kfp")} <= names
    stubs = {str(path.relative_to(ROOT / "optimizer")) for path in (ROOT / "optimizer").rglob("__init__.pyi")}
    assert "gangplan/client/__init__.pyi" in stubs
    assert stubs <= names
    pipelines = {path.name for path in (ROOT / "kfp_components" / "compiled").glob("*.yaml")}
    assert {f"gangplan_kfp/compiled/{name}" for name in pipelines} <= names
