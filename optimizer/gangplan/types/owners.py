"""Owners that a cluster knows: the paths by which reservations say whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

_OBJECT, _PIPELINE = "kubernetes", "kfp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOwner:
    """One object of a cluster; its path is `kubernetes/<namespace>/<kind>/<name>/<uid>`."""

    namespace: str
    kind: str
    name: str
    uid: str

    def __str__(self) -> str:
        return "/".join([_OBJECT, self.namespace, self.kind, self.name, self.uid])


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOwner:
    """One run of a Kubeflow pipeline; its path is `kfp/<run id>`."""

    run: str

    def __str__(self) -> str:
        return f"{_PIPELINE}/{quote(self.run, safe='')}"


def cluster_owner(path: str) -> ObjectOwner | PipelineOwner | None:
    """Read the beginning of an owner's path, or of an attempt's; None where it names nothing that a cluster knows."""
    first, *rest = path.split("/")
    if first == _OBJECT and len(rest) >= 4 and all(rest[:4]):
        return ObjectOwner(namespace=rest[0], kind=rest[1], name=rest[2], uid=rest[3])
    if first == _PIPELINE and rest and rest[0]:
        return PipelineOwner(run=unquote(rest[0]))
    return None
