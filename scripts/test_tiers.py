"""Run the test tiers, each in its environment, and name each with its count; a red or skipped one is never hidden.

`python scripts/test_tiers.py [--long] [--whole] [tier ...]` runs all but those of older versions of Airflow, or those
named; with `--long` only the tests that search, and for long (`tests/effort.py`); with `--whole` also
what a tier leaves out. Exit code 1 when any tier fails or runs no test.
The ten slowest tests are named at the end. The servers of the cluster tier are built, when they are not yet, beside
the other tiers and at a lower priority.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.cluster.servers import build  # noqa: E402 - found by the line above

RESULTS = ROOT / ".run" / "tests"
SLOWEST = 10
WORKERS = str(min(8, 1 + (os.cpu_count() or 2)))
"""One more than there are cores: tests often wait for a process, a lease or a server."""

BUILD = ("nice", "-n", "10", sys.executable, "-m", "tests.cluster.servers", "--build")


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One set of tests: the environment that runs it, the folders, and pytest's extra arguments.

    `missing` says what this machine lacks for it, in one line; it then does not run, which the table says. `leaves_out`
    are files that only run with `--whole`, each with the reason. A tier that is `older` only runs where it is named.
    """

    name: str
    environment: str
    arguments: tuple[str, ...]
    missing: Callable[[], str] = lambda: ""
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    leaves_out: Mapping[str, str] = field(default_factory=dict[str, str])
    older: bool = False

    @property
    def all_arguments(self) -> list[str]:
        """What pytest gets."""
        return [*self.arguments, *(f"--ignore={file}" for file in self.leaves_out)]


def no_cluster() -> str:
    """Say why there can be no cluster: none is named, and none can be built."""
    return "" if os.environ.get("KUBECONFIG") else build.missing()


TIERS = (
    Tier(
        name="core",
        environment="core",
        arguments=(
            "tests",
            *(f"--ignore=tests/{other}" for other in ("airflow", "kfp", "docs", "cluster")),
            "-n",
            WORKERS,
        ),
    ),
    Tier(name="airflow", environment="airflow", arguments=("tests/airflow", "-n", WORKERS)),
    Tier(
        name="airflow31",
        environment="airflow31",
        arguments=("tests/airflow", "-n", WORKERS),
        leaves_out={
            "tests/airflow/test_browser.py": "the page is the same file in each Airflow",
            "tests/airflow/test_run_cycle.py": "`make run` runs in the newest Airflow",
        },
        older=True,
    ),
    Tier(name="airflow32", environment="airflow32", arguments=("tests/airflow", "-n", WORKERS), older=True),
    Tier(name="kfp", environment="kfp", arguments=("tests/kfp", "-n", WORKERS)),
    Tier(name="docs", environment="core", arguments=("tests/docs", "-n", WORKERS)),
    Tier(
        name="cluster",
        environment="core",
        arguments=("tests/cluster", "-n", "2", "--dist", "loadgroup"),
        missing=no_cluster,
    ),
)


LONG_TIERS = ["core", "cluster"]


def searching(tier: Tier) -> Tier:
    """Return a tier's tests that search, which then do so for long."""
    return replace(tier, arguments=(*tier.arguments, "-m", "searches"), environ={"GANGPLAN_TEST_LONG": "1"})


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a tier's tests came to."""

    tier: str
    passed: int
    failed: int
    skipped: tuple[str, ...]
    seconds: float
    code: int
    absent: bool = False
    slowest: tuple[tuple[float, str], ...] = ()

    @property
    def good(self) -> bool:
        """Whether the tier ran and nothing in it failed, or this machine has not what it needs."""
        return self.absent or (self.code == 0 and self.passed > 0)


def main(wanted: list[str]) -> int:
    """Run the tiers that were asked for and print the table."""
    known = [tier.name for tier in TIERS]
    long, whole = "--long" in wanted, "--whole" in wanted
    usual = LONG_TIERS if long else [tier.name for tier in TIERS if not tier.older]
    wanted = [name for name in wanted if name not in ("--long", "--whole")] or usual
    for name in wanted:
        if name not in known:
            print(f"error: tier: {name!r} is unknown: use one of {', '.join(known)}", file=sys.stderr)
            return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    tiers = [searching(tier) if long else tier for tier in TIERS if tier.name in wanted]
    tiers = [replace(tier, leaves_out={}) if whole else tier for tier in tiers]
    beside = len(tiers) > 1 and any(tier.name == "cluster" for tier in tiers)
    with building() if beside else nullcontext():
        counts = [run(tier) for tier in tiers]
    for count in counts:
        mark = "absent" if count.absent else "ok    " if count.good else "FAILED"
        print(f"{mark} tier {count.tier:9} {count.passed} passed, {count.failed} failed, ", end="")
        print(f"{len(count.skipped)} skipped in {count.seconds:.0f} s")
        for name in count.skipped:
            print(f"         did not run: {name}")
        for file, why in next(tier for tier in tiers if tier.name == count.tier).leaves_out.items():
            print(f"         leaves out: {file}: {why}")
    for seconds, name in sorted((slow for count in counts for slow in count.slowest), reverse=True)[:SLOWEST]:
        print(f"slowest: {seconds:5.1f} s {name}")
    passed, failed, skipped = (sum(column) for column in zip(*(totals(count) for count in counts), strict=True))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if all(count.good for count in counts) else 1


@contextmanager
def building() -> Generator[None]:
    """Build the cluster's servers beside what runs in the block, unless there is nothing to build.

    They are built at a lower priority, so that the tests beside them keep their speed. What fails is built again by the
    cluster tier itself, which then fails with the reason.
    """
    if os.environ.get("KUBECONFIG") or build.missing() or build.ready(tuple(build.TOOLS)):
        yield
        return
    print("--- the cluster's servers are built beside the tiers (once)", flush=True)
    with (RESULTS / "build.log").open("w") as log:
        builder = subprocess.Popen(BUILD, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        if builder.poll() is None:
            os.killpg(builder.pid, signal.SIGTERM)
        builder.wait()


def wait_for_build() -> None:
    """Wait until nobody builds what every cluster needs, and say how long."""
    started = time.monotonic()
    for module in build.USUAL:
        with build.lock(module):
            waited = time.monotonic() - started
    if waited > 1:
        print(f"--- waited {waited:.0f} s for the cluster's servers", flush=True)


def totals(count: Count) -> tuple[int, int, int]:
    """Give a tier's numbers for the sum; a tier that broke before its tests counts as one failure."""
    broke = int(not count.good and count.failed == 0)
    return count.passed, count.failed + broke, len(count.skipped)


def run(tier: Tier) -> Count:
    """Run one tier and read its results."""
    print(f"--- tier {tier.name} (environment {tier.environment})", flush=True)
    if why := tier.missing():
        return Count(
            tier=tier.name, passed=0, failed=0, skipped=(f"tier {tier.name}: {why}",), seconds=0, code=0, absent=True
        )
    results = RESULTS / f"{tier.name}.xml"
    results.unlink(missing_ok=True)
    python = ROOT / ".envs" / tier.environment / "bin" / "python"
    command = [str(python), "-m", "pytest", "-q", f"--junitxml={results}", *tier.all_arguments]
    if tier.name == "cluster":
        wait_for_build()
    started = time.monotonic()
    code = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0", **tier.environ}, check=False
    ).returncode
    return read(tier, results, code, time.monotonic() - started)


def read(tier: Tier, results: Path, code: int, seconds: float) -> Count:
    """Count a tier's results; without a results file nothing ran."""
    cases = list(ET.parse(results).iter("testcase")) if results.exists() else []  # noqa: S314 - our own file
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return Count(
        tier=tier.name,
        passed=len(cases) - len(bad) - len(skipped),
        failed=len(bad),
        skipped=tuple(_skip(case) for case in skipped),
        seconds=seconds,
        code=code,
        slowest=tuple(sorted((float(case.get("time", 0)), _name(case)) for case in cases)[-SLOWEST:]),
    )


def _name(case: ET.Element) -> str:
    """Name a test by its module and function."""
    return f"{case.get('classname')}::{case.get('name')}"


def _skip(case: ET.Element) -> str:
    """Name a skipped test and why it did not run."""
    found = case.find("skipped")
    why = "" if found is None else str(found.get("message"))
    return f"{_name(case)}: {why}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
