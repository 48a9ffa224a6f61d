"""The agent on a node, as a process, with a double of NVIDIA's library: what the label says holds, whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from tests.execute.green.driver import Machine, ended
from tests.execute.green.node_api import NODE, NodeApi

pytestmark = pytest.mark.present("the agent is a process that waits for changes by the machine's clock")


def until(good: Callable[[], bool], why: str, seconds: float = 60.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline, why
        time.sleep(0.02)


def test_a_label_is_held_through_kill_restart_and_reboot_and_given_back(machine: Machine, node_api: NodeApi) -> None:
    """Set at the start, on a change, again after a restart of the machine; kept by a kill -9; default at the end."""
    node_api.label(power="500")
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {500}, "the label's cap is not set")
    node_api.label(power="400", other="x")
    until(lambda: machine.limits() == {400}, "the changed cap is not set")
    machine.restart()
    until(lambda: machine.limits() == {400}, "the cap is not set again after the GPUs forgot it")
    agent.kill()
    agent.wait()
    assert machine.limits() == {400}
    machine.restart()
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {400}, "the next agent does not go on")
    sets = [count for *_, count in machine.gpus()]
    watches = sum("WATCH" in line for line in node_api.asked)
    until(lambda: sum("WATCH" in line for line in node_api.asked) > watches + 1, "the agent does not look again")
    assert [count for *_, count in machine.gpus()] == sets, "a limit that holds is set again"
    code, log, err = ended(agent)
    assert (code, err) == (0, "")
    assert machine.limits() == {700}
    assert {"node": NODE, "gpu": "GPU-1", "watts_before": 400, "watts": 700} in log
    assert set(node_api.asked) == {f"GET /api/v1/nodes/{NODE} ", f"WATCH /api/v1/nodes metadata.name={NODE}"}


def test_without_the_label_gpus_have_their_default_also_after_a_killed_agent(
    machine: Machine, node_api: NodeApi
) -> None:
    """The label goes while no agent runs: the next one sets the default limit."""
    node_api.label(power="300")
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {300}, "the cap is not set")
    agent.kill()
    agent.wait()
    node_api.label()
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {700}, "the default is not set")
    node_api.label(clock="1200")
    until(lambda: machine.clocks() == {1200}, "the clock is not locked")
    node_api.label()
    until(lambda: machine.clocks() == {0}, "the clock is not free again")
    assert ended(agent, signal.SIGINT)[0] == 0


def test_a_cap_that_the_gpu_refuses_or_nobody_can_read_is_said_once_and_nothing_is_held(
    machine: Machine, node_api: NodeApi
) -> None:
    """Out of range, or no number: the default holds, the log names field, value and remedy; the agent goes on."""
    node_api.label(power="400")
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {400}, "the cap is not set")
    node_api.label(power="90")
    until(lambda: machine.limits() == {700}, "the default is not set for a cap out of range")
    node_api.label(power="350")
    until(lambda: machine.limits() == {350}, "the agent does not go on")
    node_api.label(power="many")
    until(lambda: machine.limits() == {700}, "the default is not set for a wrong label")
    code, log, _ = ended(agent)
    said = [str(entry["error"]) for entry in log if "error" in entry]
    assert code == 0
    assert "gangplan.io/power-cap-watts: 90 is outside the 200 to 700 W that GPU-1 allows" in said[0]
    assert any("'many' must be a whole number" in line for line in said)
    assert len(said) == len(set(said))


def test_the_cap_holds_while_the_api_server_is_away(machine: Machine, node_api: NodeApi) -> None:
    """Nothing is given up, and the GPUs are looked at on."""
    node_api.label(power="450")
    agent = machine.agent(NODE)
    until(lambda: machine.limits() == {450}, "the cap is not set")
    node_api.away = True
    seen = len(node_api.asked)
    until(lambda: len(node_api.asked) > seen + 2, "the agent does not ask on")
    assert machine.limits() == {450}
    node_api.away = False
    node_api.label(power="350")
    until(lambda: machine.limits() == {350}, "the agent does not hear when the server is back")
    assert ended(agent)[0] == 0


def test_missing_rights_library_or_node_end_the_agent_with_a_remedy(machine: Machine, node_api: NodeApi) -> None:
    """NVML's refusals and an unknown node are named; nothing was set."""
    node_api.label(power="450")
    for name, more, code, words in (
        (NODE, {"NVML_DOUBLE_REFUSES": "4"}, 3, "Insufficient Permissions: needs root and CAP_SYS_ADMIN"),
        (NODE, {"LD_LIBRARY_PATH": ""}, 4, "libnvidia-ml.so.1"),
        ("n9", {}, 2, "node: 'n9' is no node of this cluster"),
    ):
        _, err = (agent := machine.agent(name, **more)).communicate(timeout=120)
        assert (agent.returncode, words in err) == (code, True), err
    assert machine.limits() == {700}


def test_the_library_answers_as_a_gpu_does(machine: Machine) -> None:
    """Draw is below the limit; what is out of range is refused in NVML's words, with a remedy."""
    script = """
from gangplan.errors import RejectedError
from gangplan.execute.green import Nvml
with Nvml() as nvml:
    first, second = nvml.gpus()
    assert (first.uuid, first.least, first.most, first.default, first.draw) == ("GPU-1", 200, 700, 700, 690)
    first.set_limit(420)
    assert (first.limit, first.draw, second.limit) == (420, 420, 700)
    try:
        first.set_limit(900)
    except RejectedError as error:
        assert "Invalid Argument: outside what this GPU allows" in str(error)
    else:
        raise AssertionError("900 W were accepted")
"""
    subprocess.run([sys.executable, "-c", script], env=machine.environment(), check=True)
