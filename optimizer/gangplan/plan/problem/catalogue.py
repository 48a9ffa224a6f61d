"""The catalogue of accelerators: what each can do and what it costs.

The package has a small catalogue with a date. `accelerators.yaml` in the home folder adds to it and takes precedence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from gangplan.errors import InputError
from gangplan.types import PoolKind, require_at_least, require_name, require_positive, require_slot
from gangplan.yaml_files import parse_yaml, read_yaml


class Strict:
    """The base of values that are read from a file: a misspelt field is refused."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


class AcceleratorKind(StrEnum):
    """What sort of hardware it is."""

    GPU = "gpu"
    TPU = "tpu"
    FPGA = "fpga"
    ASIC = "asic"
    CPU = "cpu"


@dataclass(frozen=True, kw_only=True)
class Price(Strict):
    """What one accelerator costs: money per hour on demand, and shares of it for owned and spot."""

    on_demand: float
    owned_factor: float
    spot_factor: float
    gpus_per_node: int

    def __post_init__(self) -> None:
        require_positive("catalogue.on_demand", self.on_demand)
        require_positive("catalogue.owned_factor", self.owned_factor)
        require_positive("catalogue.spot_factor", self.spot_factor)
        require_at_least("catalogue.gpus_per_node", self.gpus_per_node, 1)

    def per_node(self, kind: PoolKind) -> float:
        """Return the money per node-hour of a pool of that kind."""
        factor = {PoolKind.OWNED: self.owned_factor, PoolKind.SPOT: self.spot_factor}.get(kind, 1.0)
        return round(self.on_demand * factor * self.gpus_per_node, 2)


@dataclass(frozen=True, kw_only=True)
class Accelerator(Price):
    """An accelerator: its price, and what it can do.

    `memory_gb`, `bf16_tflops` (dense 16-bit; 0: unknown) and `watts` are of one; `mig` says how many of each MIG
    profile it holds.
    """

    kind: AcceleratorKind
    memory_gb: float
    features: tuple[str, ...]
    bf16_tflops: float = 0.0
    watts: float = 0.0
    mig: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("catalogue.memory_gb", self.memory_gb)
        for name in ("bf16_tflops", "watts"):
            require_at_least(f"catalogue.{name}", getattr(self, name), 0)
        for profile, count in self.mig.items():
            require_slot("catalogue.mig", profile)
            require_at_least(f"catalogue.mig[{profile}]", count, 1)


@dataclass(frozen=True, kw_only=True)
class Need(Strict):
    """Capabilities that work asks for instead of a name: kinds, features, memory of one accelerator in GB.

    With `like`, an accelerator does the work as fast as its 16-bit teraflops are to that one's; without, all at 1.
    """

    kinds: tuple[AcceleratorKind, ...] = ()
    features: tuple[str, ...] = ()
    memory_gb: float = 0.0
    like: str = ""

    def __post_init__(self) -> None:
        require_at_least("needs.memory_gb", self.memory_gb, 0)

    def met_by(self, accelerator: Accelerator) -> bool:
        """Whether an accelerator can do the work."""
        kind = not self.kinds or accelerator.kind in self.kinds
        return kind and set(self.features) <= set(accelerator.features) and accelerator.memory_gb >= self.memory_gb


@dataclass(frozen=True, kw_only=True)
class Catalogue(Strict):
    """Accelerators as of a day.

    `default` is the price of those that are not in it; `terms` are shares of the price on demand by months; `features`
    are the words that accelerators and needs may use, with what each means.
    """

    as_of: date
    terms: dict[int, float]
    features: dict[str, str]
    default: Price
    accelerators: dict[str, Accelerator]

    def __post_init__(self) -> None:
        for name, accelerator in self.accelerators.items():
            require_name("catalogue.accelerators", name)
            for feature in accelerator.features:
                require_known(f"catalogue.accelerators[{name}].features", feature, self.features)

    def price(self, accelerator: str) -> Price:
        """Return an accelerator's price, whatever the case of its name."""
        return self.accelerators.get(accelerator.lower(), self.default)

    def speeds(self, name: str, need: Need) -> dict[str, float]:
        """Return how fast each accelerator does what a need asks for; only those that can.

        A need is refused that names what the catalogue lacks, or that no accelerator meets.
        """
        for feature in need.features:
            require_known(f"needs[{name}].features", feature, self.features)
        if need.like:
            require_known(f"needs[{name}].like", need.like, self.accelerators)
        base = self.accelerators[need.like].bf16_tflops if need.like else 0.0
        able = {other: kind for other, kind in self.accelerators.items() if need.met_by(kind)}
        ratios = {other: kind.bf16_tflops / base if base else 1.0 for other, kind in able.items()}
        speeds = {other: round(ratio, 4) for other, ratio in ratios.items() if ratio > 0}
        if not speeds:
            raise InputError(f"needs[{name}]", need, "is met by no accelerator of the catalogue: ask for less")
        return speeds


def require_known(where: str, name: str, known: dict[str, Any]) -> None:
    """Refuse a name that is not among those known, with the nearest."""
    if name not in known:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known)}"
        raise InputError(where, name, f"is not in the catalogue: {hint} (`gangplan plan accelerators` lists it)")


_CATALOGUE, _ENTRIES = TypeAdapter(Catalogue), TypeAdapter(dict[str, Accelerator])


@cache
def _packaged() -> Catalogue:
    """Read the catalogue that comes with the package."""
    text = resources.files("gangplan.plan.problem").joinpath("catalogue.yaml").read_text()
    return _CATALOGUE.validate_python(parse_yaml(text, "catalogue", "catalogue.yaml").body)


def read_catalogue(path: Path | None = None) -> Catalogue:
    """Read the catalogue, with the entries of a file of one's own where there is one."""
    base = _packaged()
    if path is None or not path.exists():
        return base
    document = read_yaml(path, "accelerators")
    own = {} if document.body is None else document.read_as(_ENTRIES, "accelerators")
    return replace(base, accelerators={**base.accelerators, **own})
