"""Watches that break off, expire, or find nobody who reads: nothing is lost and nothing is asked for all the time."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from gangplan.kube.api import Api, connect
from gangplan.kube.mirror import Mirror
from tests.cluster.conftest import Space, until

Object = dict[str, Any]


class Maps:
    """The ConfigMaps of a namespace, mirrored: what they hold, and what was heard."""

    def __init__(self, space: Space, api: Api) -> None:
        self.path = f"/api/v1/namespaces/{space.name}/configmaps"
        self.api = space.api
        self.heard: list[tuple[str, str | None, str | None]] = []
        self.hold = Event()
        self.hold.set()
        selector = "test=yes"
        self.mirror: Mirror[str] = Mirror(
            api, self.path, lambda item: item["data"]["x"], self.hear, labelSelector=selector
        )

    def hear(self, name: str, before: str | None, now: str | None) -> None:
        """Take a change in, as slowly as the test wants."""
        self.hold.wait()
        self.heard.append((name.rpartition("/")[2], before, now))

    def put(self, name: str, value: str) -> Object:
        """Write a map."""
        body = {"metadata": {"name": name, "labels": {"test": "yes"}}, "data": {"x": value}}
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        return self.api.apply(f"{self.path}/{name}", kind | body)

    def holds(self) -> dict[str, str]:
        """Return what the mirror has, by plain name."""
        return {name.rpartition("/")[2]: value for name, value in self.mirror.there.items()}


@pytest.fixture
def maps(space: Space) -> Iterator[Maps]:
    """A mirror over a connection of its own."""
    made = Maps(space, connect(kubeconfig=str(space.kubeconfig)))
    made.put("there", "1")
    made.mirror.start()
    made.mirror.ready.wait(10)
    yield made
    made.hold.set()
    made.mirror.close()


def test_changes_come_once_and_in_order(maps: Maps) -> None:
    """What was there, what came, changed and went."""
    maps.put("new", "1")
    maps.put("new", "2")
    maps.api.delete(f"{maps.path}/new")
    until(lambda: len(maps.heard) == 4)
    assert maps.heard == [("there", None, "1"), ("new", None, "1"), ("new", "1", "2"), ("new", "2", None)]
    assert maps.holds() == {"there": "1"}


def test_a_watch_that_breaks_off_goes_on_where_it_was(maps: Maps) -> None:
    """No new list, and nothing between is lost."""
    until(lambda: maps.mirror.watches == 1)
    for number in range(3):
        watches = maps.mirror.watches
        maps.mirror._stream.close()
        maps.put("new", str(number))
        until(lambda number=number: maps.holds().get("new") == str(number))
        until(lambda watches=watches: maps.mirror.watches > watches)
    assert maps.mirror.lists == 1


def test_a_slow_reader_loses_nothing(maps: Maps) -> None:
    """While nobody reads, 600 changes pile up; the end is right, whether by watch or by a new list."""
    maps.hold.clear()
    for number in range(600):
        maps.put(f"m{number % 50}", str(number))
    maps.hold.set()
    until(lambda: maps.holds() == {"there": "1"} | {f"m{n}": str(550 + n) for n in range(50)})
