"""Figures of a process in Prometheus's text format, of which a few families need no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Literal, TypeAlias

Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Figures of one name, told apart by their labels."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


class Metrics:
    """The present figures, safe to use from many threads."""

    def __init__(self, *families: Family) -> None:
        self._lock = Lock()
        self._families = {family.name: family for family in families}
        self._values: dict[str, dict[Labels, float]] = {
            family.name: {} if family.labels else {(): 0.0} for family in families
        }

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a figure."""
        with self._lock:
            self._values[name][labels] = value

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Raise a counter."""
        with self._lock:
            self._values[name][labels] = self._values[name].get(labels, 0.0) + by

    def replace(self, name: str, values: Mapping[Labels, float]) -> None:
        """Set all figures of a family: those not given are gone, such as those of a pool that is no more."""
        with self._lock:
            self._values[name] = dict(values)

    def get(self, name: str, *labels: str) -> float:
        """Return a figure; 0 for one that was never set."""
        with self._lock:
            return self._values[name].get(labels, 0.0)

    def text(self) -> str:
        """Return all figures as Prometheus reads them."""
        with self._lock:
            lines = [line for family in self._families.values() for line in self._lines(family)]
        return "\n".join([*lines, ""])

    def _lines(self, family: Family) -> list[str]:
        head = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        rows = sorted(self._values[family.name].items())
        return head + [f"{family.name}{_labels(family.labels, labels)} {value:.15g}" for labels, value in rows]


def _labels(names: tuple[str, ...], values: Labels) -> str:
    given = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{given}}}" if given else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
