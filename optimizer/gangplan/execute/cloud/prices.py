"""Prices of a fleet's pools from SkyPilot's catalog or a cloud's own call; one that is in doubt is never taken."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gangplan.errors import InputError
from gangplan.kube import short_name
from gangplan.types import Fleet, Pool, PoolKind

_COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Region", "AvailabilityZone", "Price", "SpotPrice")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?")
_SHOWN = 6
BOUGHT = (PoolKind.ON_DEMAND, PoolKind.SPOT)
"""The kinds of pools that have a cloud's price: what is owned, or bound by a contract, has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one row of a catalog offers: a machine, with or without accelerators, or accelerators without a machine.

    Prices are the texts of the file, in US dollars per hour.
    """

    place: str
    machine: str
    accelerator: str
    count: str
    region: str
    zone: str
    on_demand: str
    spot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChange:
    """The price per node-hour of a pool, before and after, and what it is the price of."""

    pool: str
    machine: str
    zone: str
    before: float
    after: float


def read_skypilot(path: Path) -> tuple[Offer, ...]:
    """Read SkyPilot's `vms.csv` of one cloud.

    Raises
    ------
    InputError
        The file cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
                remedy = f"has no column {missing[0]}: give SkyPilot's vms.csv"
                raise InputError("skypilot", path, remedy)
            return tuple(_offer(row, f"{path.name} line {rows.line_num}") for row in rows)
    except OSError as error:
        raise InputError("skypilot", path, f"cannot be read ({error.strerror}): check the path") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError("skypilot", path, "is no table of comma-separated text: give SkyPilot's vms.csv") from None


def _offer(row: Mapping[str, str | None], place: str) -> Offer:
    machine, accelerator, count, region, zone, on_demand, spot = ((row[name] or "").strip() for name in _COLUMNS)
    return Offer(
        place=place,
        machine=machine,
        accelerator=accelerator,
        count=count,
        region=region,
        zone=zone,
        on_demand=on_demand,
        spot=spot,
    )


def bought_pools(fleet: Fleet, named: Collection[str]) -> tuple[Pool, ...]:
    """Return the pools of these names, or all that have a cloud's price.

    Raises
    ------
    InputError
        A named pool is owned or bound by a contract, or there is no pool to price.
    """
    pools = tuple(map(fleet.pool, named)) or tuple(pool for pool in fleet.pools if pool.kind in BOUGHT)
    for pool in pools:
        if pool.kind not in BOUGHT:
            remedy = "has a price of its own, not a cloud's: leave it out, or set its kind to on_demand or spot"
            raise InputError(f"pools[{pool.name}].kind", pool.kind.value, remedy)
    if not pools:
        raise InputError("pools", "the fleet", "has no pool of kind on_demand or spot: only those have a cloud's price")
    return pools


def catalog_changes(
    pools: Iterable[Pool], offers: Collection[Offer], *, region: str = "", machines: Mapping[str, str] = {}
) -> tuple[PriceChange, ...]:
    """Return each pool's price by the catalog, matched by accelerator, count, region and zone.

    Parameters
    ----------
    region : the catalog's region; default: each pool's own
    machines : the machine types of pools for which the catalog has several

    Raises
    ------
    InputError
        A pool matches nothing, or offers of different prices; nothing is taken of the others either.
    """
    return tuple(_priced(pool, offers, region or pool.region, machines.get(pool.name, "")) for pool in pools)


def _priced(pool: Pool, offers: Collection[Offer], region: str, machine: str) -> PriceChange:
    here = [offer for offer in offers if offer.region == region]
    if not here:
        known = sorted({offer.region for offer in offers})
        raise InputError(f"pools[{pool.name}].region", region, f"is not in the catalog: --region {_or(known)}")
    here = [offer for offer in here if offer.zone == pool.zone] or here
    chosen = _with_accelerators(pool, here, machine) or _machine_and_accelerators(pool, here, machine)
    if not chosen:
        raise _unmatched(pool, here, region, machine)
    found = {(name, zone): price for name, zone, price in chosen}
    if len(set(found.values())) > 1:
        raise _doubtful(pool, found)
    (name, zone), price = next(iter(found.items()))
    return PriceChange(pool=pool.name, machine=name, zone=zone, before=pool.price_per_node_hour, after=price)


_Priced = tuple[str, str, float]


def _with_accelerators(pool: Pool, offers: Iterable[Offer], machine: str) -> list[_Priced]:
    """Return the machines that have the pool's accelerators in them, with zone and price."""
    return [
        (offer.machine, offer.zone, _price(pool, offer))
        for offer in offers
        if offer.machine and machine in ("", offer.machine) and _has(offer, pool)
    ]


def _machine_and_accelerators(pool: Pool, offers: Collection[Offer], machine: str) -> list[_Priced]:
    """Return what a machine and its accelerators cost together, where the catalog has each by itself."""
    parts = {offer.zone: _price(pool, offer) for offer in offers if not offer.machine and _has(offer, pool)}
    return [
        (offer.machine, offer.zone, round(_price(pool, offer) + parts[offer.zone], 6))
        for offer in offers
        if machine and offer.machine == machine and not offer.accelerator and offer.zone in parts
    ]


def _has(offer: Offer, pool: Pool) -> bool:
    """Whether the offer is of as many of the pool's accelerators as its nodes have."""
    names = {offer.accelerator.lower(), short_name(offer.accelerator)} if offer.accelerator else set[str]()
    return pool.accelerator.lower() in names and _number(offer.count) == pool.gpus_per_node


def _price(pool: Pool, offer: Offer) -> float:
    """Return the offer's price for pools of that kind."""
    spot = pool.kind == PoolKind.SPOT
    text = offer.spot if spot else offer.on_demand
    price = _number(text)
    if price is None or not 0 < price < math.inf:
        column = "SpotPrice" if spot else "Price"
        remedy = f"is no price ({offer.place}): write it in digits with a decimal point, in US dollars per hour"
        raise InputError(f"{column} of {offer.machine or offer.accelerator}", text, remedy)
    return price


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _unmatched(pool: Pool, offers: Iterable[Offer], region: str, machine: str) -> InputError:
    """Return the error about a pool that no offer fits, with what comes nearest."""
    where = f"pools[{pool.name}].accelerator"
    what = f"{pool.gpus_per_node} x {pool.accelerator}"
    if machine:
        return InputError(f"machine of {pool.name}", machine, f"is not offered with {what} in {region}: correct it")
    near = [offer for offer in offers if _has(replace(offer, count=str(pool.gpus_per_node)), pool)]
    if any(_has(offer, pool) for offer in near):
        remedy = f"is priced without a machine in {region}: name the type, --machine {pool.name}=TYPE"
        return InputError(where, what, remedy)
    counts = ", ".join(sorted({offer.count.removesuffix(".0") for offer in near})) or "none"
    remedy = f"is not offered in {region} (numbers of {pool.accelerator} that are: {counts})"
    return InputError(where, what, f"{remedy}: correct the pool, or leave it out with --pool")


def _doubtful(pool: Pool, found: Mapping[tuple[str, str], float]) -> InputError:
    """Return the error about a pool that several prices fit."""
    of_machine = {machine: price for (machine, _), price in found.items()}
    if len(of_machine) > 1:
        told = ", ".join(f"{machine} {price:g}" for machine, price in list(of_machine.items())[:_SHOWN])
        remedy = f"fits machines of different prices ({told}): name one, --machine {pool.name}=TYPE"
        return InputError(f"pools[{pool.name}].accelerator", f"{pool.gpus_per_node} x {pool.accelerator}", remedy)
    told = ", ".join(f"{zone} {price:g}" for (_, zone), price in list(found.items())[:_SHOWN])
    remedy = f"is not in the catalog, and the price differs by zone ({told}): set the pool's zone"
    return InputError(f"pools[{pool.name}].zone", pool.zone, remedy)


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}" if names else "(it is empty)"


def changed_prices(changes: Iterable[PriceChange]) -> Iterator[PriceChange]:
    """Yield the changes that change something."""
    return (change for change in changes if change.after != change.before)


def repriced(fleet: Fleet, changes: Iterable[PriceChange]) -> Fleet:
    """Return the fleet with these prices."""
    after = {change.pool: change.after for change in changes}
    pools = (replace(pool, price_per_node_hour=after.get(pool.name, pool.price_per_node_hour)) for pool in fleet.pools)
    return replace(fleet, pools=tuple(pools))


def machines_of(texts: Iterable[str], fleet: Fleet) -> dict[str, str]:
    """Read the machine types of pools, each written like h100=p5.48xlarge."""
    read: dict[str, str] = {}
    for text in texts:
        pool, _, machine = (part.strip() for part in text.partition("="))
        if not pool or not machine:
            raise InputError("machine", text, "is no pool and type: give it like h100=p5.48xlarge")
        if fleet.pool(pool).name in read:
            raise InputError("machine", text, f"names {pool} twice: give one for each")
        read[pool] = machine
    return read
