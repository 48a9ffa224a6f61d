"""The agent on a node: it holds the cap that the node's label says, and gives the GPUs back as they were.

On a node with an agent, the label alone says what the limit is: without one it is the GPU's default. A limit is gone
when the machine or the driver starts anew, so it is looked at again and again. A killed agent leaves the limit as it
is; the next one goes on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from gangplan.errors import (
    ForbiddenError,
    GangplanError,
    InputError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from gangplan.execute.green.nvml import Gpu, Nvml
from gangplan.kube import Api

CAP_LABEL, CLOCK_LABEL = "gangplan.io/power-cap-watts", "gangplan.io/gpu-clock-mhz"
"""The labels of a node: watts for each of its GPUs, and the highest clock of each."""

EVERY_S = 30
"""Seconds after which the limits are looked at again, if the node's labels do not change."""

_NODES = "/api/v1/nodes"
_NOT_KNOWN = -1  # the driver does not tell what a clock is locked to
Say = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a node's labels ask for; None: nothing."""

    watts: int | None = None
    mhz: int | None = None


NOTHING = Wanted()


def wanted_by(labels: Mapping[str, str]) -> Wanted:
    """Read a node's labels; what is no whole number is refused."""

    def number(label: str) -> int | None:
        text = labels.get(label, "")
        if text and not (text.isdecimal() and 0 < int(text) < 100_000):
            raise InputError(label, text, "must be a whole number: the label is gangplan's, remove it or correct it")
        return int(text) if text else None

    return Wanted(watts=number(CAP_LABEL), mhz=number(CLOCK_LABEL))


def print_line(entry: Mapping[str, object]) -> None:
    """Write an entry of the log: one line of JSON on standard output."""
    print(json.dumps(entry), flush=True)


class PowerAgent:
    """Holds the caps of one node until it is stopped; `say` gets an entry of the log for each change."""

    def __init__(self, api: Api, node: str, nvml: Nvml, *, every_s: int = EVERY_S, say: Say = print_line) -> None:
        self._api, self._node, self._every_s, self._say = api, node, every_s, say
        self._gpus = nvml.gpus()
        self._wanted: Wanted | None = None
        self._clock: int | None = _NOT_KNOWN
        self._troubles: dict[str, str] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End `run`, from a signal's handler or another thread: within a second, or 20 while the API server is away."""
        self._stopped.set()

    def run(self) -> None:
        """Hold what the labels say until it is stopped; then set all as it was by default.

        Raises
        ------
        ForbiddenError, UnsupportedError
            The limits cannot be set here at all, or the node may not be read.
        """
        try:
            while not self._stopped.is_set():
                self._turn()
        finally:
            self._hold(NOTHING)

    def _turn(self) -> None:
        """Read the labels, hold what they say, and wait for a change of them, or for a while."""
        if self._wanted is not None:
            self._hold(self._wanted)  # also while the API server is away
        try:
            meta = self._api.get(f"{_NODES}/{self._node}")["metadata"]
            self._troubles.pop("cluster", None)
            self._want(meta.get("labels") or {})
            self._wait_for_change(meta.get("labels") or {}, meta["resourceVersion"])
        except GangplanError as error:
            if isinstance(error, (ForbiddenError, UnsupportedError)):
                raise
            self._complain("cluster", error)
            self._stopped.wait(1.0)

    def _want(self, labels: Mapping[str, str]) -> None:
        """Hold what labels say; a wrong label counts as none."""
        try:
            wanted = wanted_by(labels)
            self._troubles.pop("label", None)
        except InputError as error:
            wanted = NOTHING
            self._complain("label", error)
        if wanted != self._wanted:
            self._wanted = wanted
            self._hold(wanted)

    def _wait_for_change(self, labels: Mapping[str, str], version: str) -> None:
        """Return when one of our labels has changed, the node is gone, the time is over, or the agent is stopped."""
        before = [labels.get(name) for name in (CAP_LABEL, CLOCK_LABEL)]
        only = {"fieldSelector": f"metadata.name={self._node}"}
        with self._api.watch(_NODES, version, seconds=self._every_s, **only) as stream:
            ended = threading.Event()
            closer = threading.Thread(target=self._close_when_stopped, args=(stream.close, ended), daemon=True)
            closer.start()
            try:
                for kind, item in stream:
                    now: dict[str, str] = item["metadata"].get("labels") or {}
                    changed = kind == "MODIFIED" and [now.get(name) for name in (CAP_LABEL, CLOCK_LABEL)] != before
                    if changed or kind == "DELETED":
                        return
            except UnavailableError:
                if not self._stopped.is_set():
                    raise
            finally:
                ended.set()

    def _close_when_stopped(self, close: Callable[[], None], ended: threading.Event) -> None:
        """Close a stream when the agent is stopped, so that its reader wakes."""
        while not ended.is_set():
            if self._stopped.wait(0.2):
                close()
                return

    def _hold(self, wanted: Wanted) -> None:
        """Set each GPU to what is wanted, where it is not so already."""
        for gpu in self._gpus:
            self._hold_limit(gpu, wanted.watts)
        if wanted.mhz is not None or self._clock is not None:
            self._hold_clock(wanted.mhz)

    def _hold_limit(self, gpu: Gpu, watts: int | None) -> None:
        """Set a GPU's limit; a cap that it does not allow counts as none, and is said."""
        if watts is None or gpu.least <= watts <= gpu.most:
            self._troubles.pop(gpu.uuid, None)
        else:
            remedy = f"is outside the {gpu.least} to {gpu.most} W that {gpu.uuid} allows: measure its curve anew"
            self._complain(gpu.uuid, InputError(CAP_LABEL, watts, f"{remedy}; it has its default of {gpu.default} W"))
            watts = None
        before, after = gpu.limit, gpu.default if watts is None else watts
        if before != after:
            gpu.set_limit(after)
            self._say({"node": self._node, "gpu": gpu.uuid, "watts_before": before, "watts": after})

    def _hold_clock(self, mhz: int | None) -> None:
        """Lock the clocks, or free them; the driver does not tell what they are locked to, so it is set each time."""
        for gpu in self._gpus:
            if mhz is not None:
                gpu.lock_clock(mhz)
            else:
                with suppress(UnsupportedError):  # what cannot be locked is free
                    gpu.free_clock()
        if mhz != self._clock and (mhz, self._clock) != (None, _NOT_KNOWN):
            self._say({"node": self._node, "clock_mhz": mhz})
        self._clock = mhz

    def _complain(self, what: str, error: GangplanError) -> None:
        """Say what is wrong, once for as long as it is."""
        if str(error) != self._troubles.get(what):
            self._troubles[what] = str(error)
            self._say({"node": self._node, "error": str(error)})


def require_node(api: Api, node: str) -> None:
    """Refuse to begin where the node cannot be read: its name or the rights are wrong."""
    try:
        api.get(f"{_NODES}/{node}")
    except NotFoundError:
        raise InputError(
            "node", node, "is no node of this cluster: the DaemonSet gives its name in NODE_NAME"
        ) from None
    except ForbiddenError as error:
        raise ForbiddenError(f"{error}; apply the manifests that `gangplan power manifests` prints") from None
