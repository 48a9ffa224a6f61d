"""Run the tests with the machine's clock set to other moments, and once on a busy machine: their results stay the same.

`python scripts/test_at_any_hour.py [--at NAME,...] [--tier NAME,...] [pytest's own arguments]` sets the clock by
libfaketime (Debian's package `faketime`), by an offset, so that all processes agree. `busy` sets no clock: it keeps
every core busy and runs the tests at a lower priority. Exit code 1 when a test fails at any moment, 2 when the clock
cannot be set here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from test_tiers import RESULTS, ROOT, TIERS, Tier

MOMENTS = {
    "spring": "2027-03-28T00:58:30+00:00",  # Berlin's clocks jump from 2:00 to 3:00 a minute and a half later
    "autumn": "2027-10-31T00:58:30+00:00",  # they go back from 3:00 to 2:00
    "month-end": "2027-04-30T23:58:30+00:00",
    "year-end": "2027-12-31T23:58:30+00:00",
    "leap-day": "2028-02-29T12:00:30+00:00",
    "night": "2027-06-08T03:59:00+00:00",
    "morning": "2027-06-09T08:29:00+00:00",
    "evening": "2027-06-10T19:59:00+00:00",
}
BUSY = "busy"
ZONE = "Europe/Berlin"

LEFT_OUT = {
    "tests/contracts/test_processes.py": "many processes on PostgreSQL and SQLite",
    "tests/contracts/test_servers.py": "PostgreSQL, and many processes",
    "tests/reserve/test_crash.py": "PostgreSQL, and processes that are killed",
    "tests/airflow/test_run_cycle.py": "processes that are killed",
    "tests/test_wheel.py": "the installer meets servers whose certificates are of today",
}
"""What libfaketime itself disturbs, and why; what needs PostgreSQL in other files is left out by its parameter."""

WITHOUT = "not postgresql"
SLEEP = """# libfaketime refuses Python's own sleep (clock_nanosleep to a moment): this one waits for nothing, as long.
import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
"""Read by every Python process while the clock is set."""

LIBRARY = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"
PICKED = ("core", "airflow", "kfp", "docs")


def main() -> int:
    """Run what was asked for and name what failed, moment by moment."""
    parser = argparse.ArgumentParser(description="Run the tests at other moments, and on a busy machine.")
    parser.add_argument("--at", default=",".join((*MOMENTS, BUSY)), help="moments, by commas (default: all)")
    parser.add_argument("--tier", default=",".join(PICKED), help="tiers, by commas (default: all four)")
    asked, rest = parser.parse_known_args()
    moments, tiers = asked.at.split(","), [tier for tier in TIERS if tier.name in asked.tier.split(",")]
    if unknown := set(moments) - {*MOMENTS, BUSY}:
        parser.error(f"--at: {', '.join(sorted(unknown))}: use {', '.join((*MOMENTS, BUSY))}")
    if set(moments) != {BUSY} and not LIBRARY.exists():
        print(f"error: {LIBRARY} is not there: install Debian's package faketime, or use --at busy", file=sys.stderr)
        return 2
    for name, why in LEFT_OUT.items():
        print(f"left out: {name}: {why}")
    print(f"left out: every test of the parameter postgresql: its server would meet two clocks ({WITHOUT!r})")
    RESULTS.mkdir(parents=True, exist_ok=True)
    return max(run(moment, tier, rest) for moment in moments for tier in tiers)


def run(moment: str, tier: Tier, rest: list[str]) -> int:
    """Run one tier at one moment; return 1 when a test failed."""
    results = RESULTS / f"{tier.name}-{moment}.xml"
    results.unlink(missing_ok=True)
    python = ROOT / ".envs" / tier.environment / "bin" / "python"
    ignored = () if moment == BUSY else (*(f"--ignore={name}" for name in LEFT_OUT), "-k", WITHOUT)
    lower = ("nice",) if moment == BUSY else ()
    command = [*lower, str(python), "-m", "pytest", "-q", f"--junitxml={results}", *(rest or tier.arguments), *ignored]
    environment = {**os.environ, "PYTHONHASHSEED": "0", **({} if moment == BUSY else faked(moment))}
    with busy() if moment == BUSY else nullcontext():
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    cases = list(ET.parse(results).iter("testcase")) if results.exists() else []  # noqa: S314 - our own file
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    good = ended.returncode == 0 and cases
    mark = "ok    " if good else "FAILED"
    print(f"{mark} {moment:9} {tier.name:8} {len(cases)} tests, {len(bad)} failed", flush=True)
    for case in bad:
        print(f"         {case.get('classname')}::{case.get('name')}")
    if not good and not bad:
        print(ended.stdout[-2000:] + ended.stderr[-2000:])
    return 0 if good else 1


def faked(moment: str) -> Mapping[str, str]:
    """Return the environment in which it is that moment now, in a zone whose clocks change."""
    ahead = datetime.fromisoformat(MOMENTS[moment]) - datetime.now(UTC)
    folder = RESULTS / "faked"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SLEEP)
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": f"{ahead.total_seconds():+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "TZ": ZONE,
    }


@contextmanager
def busy() -> Generator[None]:
    """Keep every core busy, twice over, while the block runs."""
    count = 2 * (os.cpu_count() or 1)
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


if __name__ == "__main__":
    sys.exit(main())
