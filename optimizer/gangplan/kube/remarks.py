"""What must be said of a reading of a cluster: what was left out or assumed, with its count, and what is malformed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from gangplan.kube.accelerators import VENDORS, is_accelerator
from gangplan.kube.api import Object, part

T = TypeVar("T")

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
_PARTS = ("gpumem", "gpumem-percentage", "gpucores", "vgpu-memory", "vgpu-cores", "memory.max", "millicores")
_SENTENCES = {
    "refused": "left out: {} refused by the node, which never ran",
    "guessed": "{} over since an unknown time: counted up to the last moment that is known",
    "shared": "{} on shared GPUs, and no label (nvidia.com/gpu.replicas) says how many share one: each share counts as "
    "a whole GPU",
    "parts": "{} with a part of a GPU, by memory or cores: counted as the whole GPUs that are asked for beside it",
    "several": "{} for which several accelerators will do: counted as the first that is listed",
    "unclaimed": "{} with Kueue's labels that no Workload counts: each is a gang of its own",
    "claims": "not counted: {} with ResourceClaims, since {}",
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """An object that cannot be read: its list, its place in it from 1, its name, and what is wrong."""

    path: str
    line: int
    name: str
    error: str


class Remarks:
    """Counts the pods that a sentence is about, and keeps what could not be read."""

    def __init__(self) -> None:
        self.malformed: list[Malformed] = []
        self._said: list[str] = []
        self._pods: Counter[str] = Counter()
        self._strange: Counter[str] = Counter()
        self._because: dict[str, str] = {}

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        self._said.append(sentence)

    def pod(self, what: str, pods: int = 1, because: str = "") -> None:
        """Count pods that one of the sentences is about."""
        self._pods[what] += pods
        self._because[what] = because

    def asks(self, asked: Mapping[str, int]) -> None:
        """Note the resources of a pod that may be accelerators and are not in the table."""
        strange = [name for name in asked if name.startswith(VENDORS) and not is_accelerator(name)]
        self._strange.update(strange)
        if any(name.partition("/")[2] in _PARTS for name in strange):
            self.pod("parts")

    def each(self, path: str, items: Iterable[Object], read: Callable[[Object], list[T]]) -> Iterator[T]:
        """Yield what is read of each object; one that cannot be read is kept out by itself."""
        for line, item in enumerate(items, 1):
            try:
                _require_text(item)
                found = read(item)
            except _MALFORMED as error:
                self.malformed.append(Malformed(path, line, _name(item), f"{type(error).__name__}: {error}"))
            else:
                yield from found

    def sentences(self) -> tuple[str, ...]:
        """Return all that must be said."""
        counted = [
            sentence.format(_pods(self._pods[what]), self._because[what])
            for what, sentence in _SENTENCES.items()
            if self._pods[what]
        ]
        if self._strange:
            listed = ", ".join(f"{name} ({_pods(count)})" for name, count in self._strange.most_common(4))
            more = len(self._strange) - 4
            counted.append(f"not counted as accelerators: {listed}{f' and {more} more' if more > 0 else ''}")
        return (*self._said, *counted)


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"


def _require_text(item: Object) -> None:
    """Refuse an object whose names and labels are not text."""
    meta, spec = part(item, "metadata"), part(item, "spec")
    names = [meta.get(name, "") for name in ("name", "namespace", "uid")] + [spec.get("nodeName") or ""]
    for labels in (
        part(meta, "labels"),
        part(meta, "annotations"),
        part(spec, "nodeLabels"),
        part(spec, "nodeSelector"),
    ):
        names += [*labels, *labels.values()]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("a name or a label is not text")


def _name(item: object) -> str:
    """Return the name of an object, as far as it has one."""
    meta: object = item.get("metadata") if isinstance(item, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return str(meta.get("name", "")) if isinstance(meta, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
