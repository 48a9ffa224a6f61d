"""What a controller's process is made of: rounds that do not hold each other up, figures, logs, answers, a lock."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from threading import Event

import httpx
import pytest

from gangplan.errors import InputError, UnavailableError
from gangplan.execute.controller.health import Health
from gangplan.execute.controller.lease import FileLead
from gangplan.execute.controller.logs import JsonLines
from gangplan.execute.controller.metrics import Family, Metrics
from gangplan.execute.controller.rounds import Round

SOON_S = 20.0
LEADER = """
import sys
from pathlib import Path
from threading import Event
from gangplan.execute.controller.lease import FileLead
led = Event()
lead = FileLead(Path(sys.argv[1]), changed=lambda leads: led.set())
lead.start()
led.wait()
lead.say("the child was here")
print("leads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def rounds() -> Iterator[list[Round]]:
    """Rounds that are stopped after the test."""
    made: list[Round] = []
    yield made
    for each in made:
        each.stop()
        assert each.join(SOON_S)


def test_a_round_comes_again_when_it_said_so(rounds: list[Round]) -> None:
    """After the time that something takes to settle, also where it was woken in between."""
    seen: list[int] = []
    third = Event()

    def work() -> None:
        seen.append(len(seen))
        if len(seen) == 1:
            rounds[0].come_again(0.5)
            rounds[0].wake()
        if len(seen) == 3:
            third.set()

    rounds.append(Round("work", work, every_s=600, leads=lambda: True, failed=lambda _: None))
    rounds[0].start()
    assert third.wait(SOON_S)


def test_a_round_that_fails_comes_again_and_holds_no_other_up(rounds: list[Round]) -> None:
    """An engine that is away and a mistake of our own: both are counted, both are tried again."""
    failures: list[str] = []
    third, other = Event(), Event()

    def fails() -> None:
        if len(failures) == 0:
            raise UnavailableError("the engine is away")
        if len(failures) == 1:
            raise ValueError("a mistake")
        third.set()

    rounds += [
        Round("fails", fails, every_s=600, leads=lambda: True, failed=failures.append),
        Round("other", other.set, every_s=600, leads=lambda: True, failed=failures.append),
    ]
    for each in rounds:
        each.start()
    assert other.wait(SOON_S)
    assert third.wait(SOON_S)
    assert failures == ["fails", "fails"]


def test_a_round_comes_at_once_when_it_is_woken(rounds: list[Round]) -> None:
    """What wakes it while it works lets it come once more; who does not lead does nothing."""
    seen, leads = [Event(), Event(), Event()], [False]
    done = iter(seen)

    def work() -> None:
        next(done).set()
        if not seen[1].is_set():
            rounds[0].wake()

    rounds.append(Round("work", work, every_s=600, leads=lambda: leads[0], failed=lambda _: None))
    rounds[0].start()
    rounds[0].wake()
    assert not seen[0].is_set()
    leads[0] = True
    rounds[0].wake()
    assert seen[1].wait(SOON_S)
    assert not seen[2].is_set()


def test_figures_are_what_prometheus_reads() -> None:
    """Labels are escaped; a family that is replaced forgets what is no more."""
    made = Metrics(Family("a_total", "counter", "As.", ("of",)), Family("b", "gauge", "Bs."))
    made.add("a_total", 'x"\\\n')
    made.add("a_total", 'x"\\\n', by=2)
    assert made.text().splitlines() == [
        "# HELP a_total As.",
        "# TYPE a_total counter",
        'a_total{of="x\\"\\\\\\n"} 3',
        "# HELP b Bs.",
        "# TYPE b gauge",
        "b 0",
    ]
    made.replace("a_total", {("y",): 1})
    assert (made.get("a_total", "y"), made.get("a_total", 'x"\\\n')) == (1, 0)


def test_logs_are_lines_of_json_with_their_fields() -> None:
    """Also an error with its traceback is one line."""
    out = StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    logger = logging.Logger("gangplan.test")
    logger.addHandler(handler)
    logger.info("%s", "done", extra={"pool": "h100", "before": 2, "after": 4})
    try:
        int("wrong")
    except ValueError:
        logger.exception("failed")
    done, failed = (json.loads(line) for line in out.getvalue().splitlines())
    assert (done["level"], done["message"], done["pool"], done["before"], done["after"]) == (
        "info",
        "done",
        "h100",
        2,
        4,
    )
    assert "ValueError: invalid literal" in failed["error"]


def test_health_answers_what_it_is_asked() -> None:
    """And says what can be asked."""
    health = Health("127.0.0.1:0", {"/healthz": lambda: (200, "ok\n"), "/readyz": lambda: (503, "no\n")})
    health.start()
    try:
        base = f"http://127.0.0.1:{health.port}"
        assert httpx.get(f"{base}/healthz?x=1").text == "ok\n"
        for path, status, text in (("/readyz", 503, "no\n"), ("/", 404, "ask for /healthz, /readyz")):
            answer = httpx.get(f"{base}{path}")
            assert (answer.status_code, answer.text) == (status, text)
        with pytest.raises(InputError, match=r"--listen: .* cannot be listened on: Address already in use"):
            Health(f"127.0.0.1:{health.port}", {})
    finally:
        health.close()


@pytest.mark.parametrize("listen", ["", "9095", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_wrong_address_is_refused(listen: str) -> None:
    """With an example of a good one."""
    with pytest.raises(InputError, match=r"is no address: give it like 127\.0\.0\.1:9095"):
        Health(listen, {})


def test_without_a_cluster_a_files_lock_says_who_leads(tmp_path: Path) -> None:
    """It goes with a process that is killed, and what that had done last stands in the file."""
    file = tmp_path / "home" / "controller.lock"
    led: list[bool] = []
    here = Event()
    child = subprocess.Popen(
        [sys.executable, "-c", LEADER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "leads\n"
    lead = FileLead(file, changed=lambda leads: (led.append(leads), here.set())[0])
    lead.start()
    assert not lead.leads
    assert file.read_text() == "the child was here"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert here.wait(SOON_S)
    assert lead.leads
    lead.close()
    assert led == [True, False]
