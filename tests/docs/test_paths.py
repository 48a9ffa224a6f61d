"""The files, folders and modules that a page names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (ROOT, ROOT / "optimizer" / "gangplan")
SOURCES = {"gangplan": "optimizer", "gangplan_airflow": "plugins", "gangplan_kfp": "kfp_components"}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
ELSEWHERE = {"yaml", "event", "by", "why", "tenant", "workload_class", "accelerator", "node"}  # a file, tags of runs
ELSEWHERE |= {"power_cap_watts", "gpu_clock_mhz", "job", "answer"}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def named(page: Path, pattern: str) -> list[str]:
    """Return what a page writes as code outside of its blocks, where it has that form."""
    return re.findall(rf"`({pattern})`", FENCE.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_paths_are_there(page: Path) -> None:
    """A path of the repository, or of the package, leads to something; other paths are the reader's own."""
    paths = [path for path in named(page, r"[\w.-]+/[\w./-]*") if path.endswith(("/", ".py", ".pyi", ".sh"))]
    ours = [
        path
        for path in paths
        if path[0] != "." and any((folder / path.partition("/")[0]).is_dir() for folder in FOLDERS)
    ]
    missing = [path for path in ours if not any((folder / path).exists() for folder in FOLDERS)]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_are_there(page: Path) -> None:
    """A dotted name that begins with one of our packages begins with a module of it."""
    for name in named(page, r"gangplan\w*\.[a-z_]+[\w.]*"):
        package, first = name.split(".")[:2]
        if package in SOURCES and first not in ELSEWHERE:
            place = ROOT / SOURCES[package] / package / first
            assert place.is_dir() or place.with_suffix(".py").exists(), name
