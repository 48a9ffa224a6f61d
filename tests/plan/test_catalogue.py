"""Accelerators as data: kinds, capabilities, prices with a date; work asks by capability; wrong names are refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError
from gangplan.plan.problem.catalogue import AcceleratorKind, Need, read_catalogue
from gangplan.plan.problem.policy import policy_body, policy_from, read_plan_policy
from gangplan.testing import a_forecast
from gangplan.types import Fleet, PoolKind

OWN = "own-chip: {kind: asic, memory_gb: 64, features: [training, bf16], bf16_tflops: 500, on_demand: 1.5, owned_factor: 0.5, spot_factor: 0.4, gpus_per_node: 8}\n"  # noqa: E501


def test_every_kind_is_there_with_its_price() -> None:
    """GPUs, TPUs, FPGAs, ASICs and CPUs have capabilities, and prices as of a day."""
    catalogue = read_catalogue()
    assert catalogue.as_of.year >= 2026
    assert {one.kind for one in catalogue.accelerators.values()} == set(AcceleratorKind)
    for one in catalogue.accelerators.values():
        assert one.per_node(PoolKind.SPOT) < one.per_node(PoolKind.ON_DEMAND)
        assert ("mig" in one.features) == bool(one.mig)
    assert catalogue.price("H100") == catalogue.accelerators["h100"]
    assert catalogue.price("tpu-v9") == catalogue.default
    assert all(months > 0 and 0 < share < 1 for months, share in catalogue.terms.items())


def test_a_need_is_met_by_what_can_do_it() -> None:
    """Features, memory and kind choose; speeds are those of the teraflops beside the one that it is like."""
    catalogue = read_catalogue()
    big = catalogue.speeds("big", Need(features=("training", "bf16"), memory_gb=80, like="h100"))
    assert big["h100"] == 1.0
    assert big["a100"] == pytest.approx(312 / 989, abs=1e-4)
    assert {"tpu-v5p", "trainium2", "mi300x", "b200"} <= set(big)
    assert not {"l4", "inferentia2", "cpu-x86", "vu47p"} & set(big)
    tpus = catalogue.speeds("tpu", Need(kinds=(AcceleratorKind.TPU,)))
    assert tpus == {"tpu-v5e": 1.0, "tpu-v5p": 1.0, "tpu-v6e": 1.0}


def test_own_entries_add_and_win(tmp_path: Path) -> None:
    """A file in the home folder adds an accelerator; what it says wrongly is named by entry and field."""
    file = tmp_path / "accelerators.yaml"
    assert read_catalogue(file) == read_catalogue()
    file.write_text(OWN + OWN.replace("own-chip", "h100"))
    catalogue = read_catalogue(file)
    assert catalogue.accelerators["own-chip"] == catalogue.accelerators["h100"]
    for wrong, said in (
        (OWN.replace("asic", "chip"), r"accelerators.own-chip.kind: 'chip'"),
        (OWN.replace("memory_gb: 64", "memory: 64"), r"accelerators.own-chip.memory"),
        (OWN.replace("1.5", "-1"), r"on_demand: -1"),
        (OWN.replace("bf16]", "bf61]"), r"features: 'bf61' is not in the catalogue: did you mean bf16"),
        ("{\n", "cannot be read"),
    ):
        file.write_text(wrong)
        with pytest.raises(InputError, match=said):
            read_catalogue(file)


def test_wrong_names_in_a_need_are_refused(tmp_path: Path) -> None:
    """A feature, a kind and an accelerator that are none, and what nothing can do, are named with what helps."""
    file = tmp_path / "plan.yaml"
    for body, said in (
        ("needs: {big: {features: [trianing]}}", r"needs\[big\].features: 'trianing'.*did you mean training"),
        ("needs: {big: {like: h1000}}", r"needs\[big\].like: 'h1000'.*did you mean h100"),
        ("needs: {big: {kinds: [npu]}}", r"plan policy.needs.big.kinds.0: 'npu'"),
        ("needs: {big: {memory_gb: 5000}}", r"needs\[big\].*met by no accelerator"),
        ("needs: {big: {memory: 80}}", r"plan policy.needs.big.memory: 80 is not a known field"),
    ):
        file.write_text(body)
        with pytest.raises(InputError, match=said):
            read_plan_policy(file)


def test_work_that_asks_by_capability_runs_on_the_cheapest_that_can(
    tmp_path: Path,
    now: datetime,
) -> None:
    """A need is written into the policy as speeds, kept with the plan, and chooses by money for the work done."""
    (tmp_path / "plan.yaml").write_text("needs: {big: {features: [training, bf16], memory_gb: 80, like: h100}}\n")
    policy = read_plan_policy(tmp_path / "plan.yaml")
    assert policy_from(policy_body(policy)) == policy
    pools = (
        pool_of("dear", "h100", price_per_node_hour=30),
        pool_of("slow", "a100", price_per_node_hour=12),  # a third as fast: 38 for an h100's work
        pool_of("small", "l4", price_per_node_hour=1),
        pool_of("other", "trainium2", gpus_per_node=16, price_per_node_hour=36),  # 0.67 as fast: 27
    )
    asked = a_forecast({("ann", "throughput", "big"): [60.0] * 24}, now, (1.0,) * 5)
    chosen = settings_of(scenarios=1, mip_gap=0.01)
    found = plan.solve(asked, Fleet(pools=pools), settings=chosen, policy=policy)
    hours = dict(found.cost.select("pool", "node_hours").iter_rows())
    assert found.shortage["expected_gpus"].sum() == pytest.approx(0, abs=0.5)
    assert hours["other"] > 0
    assert hours["slow"] == hours["small"] == 0
    none = plan.solve(asked, Fleet(pools=pools[2:3]), settings=chosen, policy=policy)
    assert "no pool meets the need big: add one with b200, h200, h100" in plan.explain(none)
