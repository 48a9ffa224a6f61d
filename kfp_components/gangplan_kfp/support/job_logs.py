"""The logs of a Job's pods in the log of the step that follows it: each line with its rank and its pod."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from gangplan.errors import ForbiddenError, GangplanError, NotFoundError
from gangplan.kube import Api, Object, listed, part

Say = Callable[[str], None]

_RANK = "batch.kubernetes.io/job-completion-index"
_QUIET_S, _AGAIN_S, _LAST_WORDS_S, _TRIES = 600.0, 1.0, 10.0, 5


class Logs:
    """Follows the pods of a label, each container by a thread of its own, from its first line to its last."""

    def __init__(self, api: Api, namespace: str, selector: str, say: Say) -> None:
        self._api, self._path, self._selector = api, f"/api/v1/namespaces/{namespace}/pods", selector
        self._say, self._lock = say, threading.Lock()
        self._threads: dict[tuple[str, str], threading.Thread] = {}
        self._told: dict[str, str] = {}
        self._over = threading.Event()
        self.pods: dict[str, Object] = {}
        """All pods that were seen, by their uids, as they were last."""

    def look(self) -> int:
        """Look at the pods, begin to follow those that have started, and return how many there are."""
        found = list(self._api.items(self._path, labelSelector=self._selector))
        for pod in found:
            self.pods[pod["metadata"]["uid"]] = pod
            self._tell_state(pod)
            for status in listed(part(pod, "status"), "containerStatuses"):
                key = pod["metadata"]["uid"], status["name"]
                if "waiting" not in status["state"] and key not in self._threads:
                    thread = threading.Thread(target=self._follow, args=(pod, status["name"]), daemon=True)
                    self._threads[key] = thread
                    thread.start()
        return len(found)

    def close(self) -> None:
        """Show what is still to come, for a while."""
        with suppress(GangplanError):
            self.look()
        deadline = time.monotonic() + _LAST_WORDS_S
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._over.set()

    def where(self) -> Iterator[tuple[str, str, str]]:
        """Yield rank, name and node of the pods, by rank."""
        found = [(rank_of(pod), _name(pod), pod["spec"].get("nodeName", "")) for pod in self.pods.values()]
        yield from sorted(found, key=lambda one: (len(one[0]), *one))

    def _tell_state(self, pod: Object) -> None:
        """Say what a pod that does not run waits for, and where one runs, when that changes."""
        text = _state(pod)
        if text and self._told.get(pod["metadata"]["uid"]) != text:
            self._told[pod["metadata"]["uid"]] = text
            self._write(pod, text)

    def _follow(self, pod: Object, container: str) -> None:
        """Show a container's log; a stream that breaks off begins again at the second of its last line."""
        path, last, failed = f"{self._path}/{_name(pod)}/log", "", 0
        several = len(pod["spec"]["containers"]) > 1
        while not self._over.is_set():
            since = {"sinceTime": last[:19] + "Z"} if last else {}
            asked = {"follow": "true", "timestamps": "true", "container": container, **since}
            try:
                with self._api.follow(path, quiet_s=_QUIET_S, **asked) as lines:
                    for line in lines:
                        moment, _, text = line.partition(" ")
                        if moment > last:
                            last = moment
                            self._write(pod, f"{container}: {text}" if several else text)
                failed = 0
            except NotFoundError:
                return
            except GangplanError as error:
                failed += 1
                if isinstance(error, ForbiddenError) or failed == _TRIES:
                    self._write(pod, f"its log cannot be read: {error}")
                    return
            if not failed and self._has_ended(pod, container):
                return
            self._over.wait(_AGAIN_S)

    def _has_ended(self, pod: Object, container: str) -> bool:
        """Tell whether a container has ended, or is gone."""
        try:
            seen = self._api.get(f"{self._path}/{_name(pod)}")
        except NotFoundError:
            return True
        except GangplanError:
            return False
        states = {one["name"]: one["state"] for one in listed(part(seen, "status"), "containerStatuses")}
        return "terminated" in states.get(container, {})

    def _write(self, pod: Object, text: str) -> None:
        rank = rank_of(pod)
        with self._lock:
            self._say(f"[{rank} {_name(pod)}] {text}" if rank else f"[{_name(pod)}] {text}")


def rank_of(pod: Object) -> str:
    """Return a pod's rank in its Job, after that Job's name in a JobSet; empty where it has none."""
    meta: Object = pod["metadata"]
    marks = {**part(meta, "annotations"), **part(meta, "labels")}
    part_of, rank = marks.get("jobset.sigs.k8s.io/replicatedjob-name", ""), marks.get(_RANK, "")
    return f"{part_of} {rank}".strip()


def troubles(pods: Mapping[str, Object]) -> Iterator[str]:
    """Yield how the containers of pods ended that did not end well."""
    for pod in pods.values():
        for status in listed(part(pod, "status"), "containerStatuses"):
            ended = part(status, "state", "terminated")
            if ended.get("exitCode"):
                where = pod["spec"].get("nodeName", "no node")
                yield f"{_name(pod)} on {where} exited with {ended['exitCode']} ({ended.get('reason', 'Error')})"


def _state(pod: Object) -> str:
    """Return what a pod waits for, or where it runs."""
    status: Object = part(pod, "status")
    if status.get("phase") == "Running":
        return f"runs on {pod['spec'].get('nodeName')}"
    if status.get("phase") != "Pending":
        return ""
    for one in listed(status, "containerStatuses"):
        waiting = part(one, "state", "waiting")
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"waits: {waiting['reason']}: {waiting.get('message', '')}"
    for mark in listed(status, "conditions"):
        if mark["type"] == "PodScheduled" and mark["status"] == "False":
            return f"waits: {mark.get('reason', '')}: {mark.get('message', '')}"
    return ""


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
