"""The cluster as the exporters see it together: its nodes by one name each, their accelerators, and what is shared."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property

import polars as pl

from gangplan.kube import NODE_LABELS, accelerator_of, metric_name, resource_from, share_of
from gangplan.telemetry.sources.prometheus.queries import (
    ADDRESSES,
    ALLOCATABLE,
    ASKED,
    CARDS,
    EXPORTERS,
    GPU,
    HOST,
    LABELS,
    Query,
)
from gangplan.telemetry.sources.prometheus.server import Samples

_PRODUCT, _COUNT, _STRATEGY = "nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/gpu.sharing-strategy"


class Cluster:
    """What the answers say of nodes; names are those of kube-state-metrics, where it knows the node."""

    def __init__(self, answers: Mapping[str, Samples]) -> None:
        self._frames = {name: answer.frame for name, answer in answers.items()}
        self._asked = set(self._frames[ASKED.name]["node"]) - {""}
        self._known = self._asked | set(self._frames[ALLOCATABLE.name]["node"]) | set(self._frames[LABELS.name]["node"])
        self._known |= set(self._frames[ADDRESSES.name]["node"])
        self._known -= {""}
        self._short = _unique((name.partition(".")[0].lower(), name) for name in self._known if not _is_address(name))
        self._other = dict(self._frames[ADDRESSES.name].select("internal_ip", "node").iter_rows())
        self._other |= dict(self._frames[EXPORTERS.name].select("pod", "node").iter_rows())
        self._labels = {row["node"]: _labels(row) for row in self._newest(LABELS, "node").iter_rows(named=True)}
        self._amounts: dict[str, dict[str, int]] = {}
        there = self._newest(ALLOCATABLE, "node", "resource").select("node", "resource", "value")
        for node, resource, value in there.iter_rows():
            self._amounts.setdefault(node, {})[resource_from(resource)] = int(value)

    def _newest(self, query: Query, *of: str) -> pl.DataFrame:
        """Return the newest sample of each node, or of each resource of a node."""
        return self._frames[query.name].sort("time").unique(of, keep="last")

    def node(self, name: str) -> str:
        """Return the node that an exporter means by this name; the name itself where it is none."""
        return self._find(name) or name

    def _find(self, name: str) -> str:
        """Return the node of a name: as it stands, without its port or domain, or as an address or exporter's pod."""
        host = name.rpartition(":")[0] if name.count(":") == 1 else name
        if host in self._known:
            return host
        return self._other.get(host, "") or (
            "" if _is_address(host) else self._short.get(host.partition(".")[0].lower(), "")
        )

    def host(self, row: Mapping[str, str]) -> str:
        """Return the node that the DCGM exporter's labels mean; one that is not known is called by its Hostname."""
        found = next((node for name in HOST if (node := self._find(row[name] or ""))), "")
        return found or row["Hostname"] or row["instance"]

    @cached_property
    def hosts(self) -> pl.DataFrame:
        """The hosts of the DCGM exporter: their labels, the node, the GPU model, and the number of GPUs."""
        cards = self._frames[CARDS.name].with_columns(cards=pl.col("value"))
        busy = self._frames[GPU.name].with_columns(cards=pl.lit(0.0))
        both = pl.concat([frame.select(*HOST, "modelName", "cards") for frame in (cards, busy)])
        most = both.group_by(*HOST, "modelName").agg(pl.max("cards")).sort(*HOST, "modelName")
        nodes = pl.Series("dcgm_node", [self.host(row) for row in most.iter_rows(named=True)], dtype=pl.String())
        return most.with_columns(nodes)

    @cached_property
    def models(self) -> dict[str, str]:
        """The GPU model of each node, from the DCGM exporter; of several, the first by name."""
        named = self.hosts.filter(pl.col("modelName") != "").sort("dcgm_node", "modelName", descending=True)
        return dict(named.select("dcgm_node", "modelName").iter_rows())

    @cached_property
    def _cards(self) -> dict[str, int]:
        most = self.hosts.group_by("dcgm_node").agg(pl.max("cards"))
        return {node: int(cards) for node, cards in most.iter_rows()}

    def _described(self, node: str) -> tuple[dict[str, str], dict[str, int]]:
        """Return the labels of a node, completed by what the DCGM exporter sees, and its amounts of each resource."""
        amounts, cards = self._amounts.get(node, {}), self._cards.get(node, 0)
        labels = {_COUNT: str(cards)} if cards else {}
        if node in self.models:
            labels[_PRODUCT] = self.models[node]
        if cards and amounts.get("nvidia.com/gpu", 0) >= 2 * cards:  # more are offered than there are: they are shared
            labels[_STRATEGY] = "time-slicing"
        return labels | self._labels.get(node, {}), amounts

    def accelerator(self, node: str, resource: str) -> str:
        """Return the accelerator that a resource counts on a node; empty where nothing tells it."""
        return accelerator_of(self._described(node)[0], resource_from(resource))

    def share(self, node: str, resource: str) -> float | None:
        """Return how much of one accelerator one of a resource is on a node; None: shared, and nothing tells it."""
        return share_of(resource_from(resource), *self._described(node))

    def notes(self) -> list[str]:
        """Say which nodes and hosts do not fit together, and which shares nothing tells."""
        asked = self._frames[ASKED.name].select("node", "resource").unique().filter(pl.col("node") != "").rows()
        nameless = sorted({node for node, resource in asked if not self.accelerator(node, resource)})
        untold = sorted({node for node, resource in asked if self.share(node, resource) is None})
        hosts = set(self.hosts["dcgm_node"])
        strange = sorted(hosts - self._known)
        notes: list[str] = []
        if strange:
            said = f"{len(strange)} of {len(hosts)} hosts of the DCGM exporter are no nodes of kube-state-metrics"
            notes.append(f"{said} ({_some(strange)}): their GPU models are not used")
        if nameless:
            notes.append(
                f"{len(nameless)} of {len(self._asked)} nodes have no GPU model ({_some(nameless)}): demand on them is"
                " counted as `any`"
            )
        if untold:
            notes.append(
                f"{len(untold)} of {len(self._asked)} nodes share GPUs, and nothing says among how many (allow the"
                " label nvidia.com/gpu.replicas in kube-state-metrics): each share counts as a whole GPU"
            )
        return notes


def _labels(row: Mapping[str, str]) -> dict[str, str]:
    return {label: value for label in NODE_LABELS if (value := row[f"label_{metric_name(label)}"])}


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what each name stands for; a name that stands for several is left out."""
    found: dict[str, str] = {}
    for name, meant in pairs:
        found[name] = meant if found.get(name, meant) == meant else ""
    return found


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
