"""The list `serving` of targets.yaml: what it may say, and how each mistake is named."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Any

import pytest
from tests.execute.prewarm import guide
from tests.execute.prewarm.builders import POOL, chat

from gangplan.errors import InputError
from gangplan.execute.prewarm import Buffer, Hpa, Keda, KServe, Serving, check_serving
from gangplan.testing import a_pool
from gangplan.types import Fleet, PoolKind

FLEET = Fleet(pools=(POOL, a_pool("l4-spot", kind=PoolKind.SPOT)))
WHOLE = """
    - {accelerator: h100, tenant: vision, gpus_per_replica: 2, where: {kind: hpa, namespace: web, name: chat}}
    - {accelerator: h100, gpus_per_replica: 0.5, level: 0.95, where: {kind: keda, namespace: web, name: q, hold: true}}
    - {accelerator: h100, gpus_per_replica: 8, where: {kind: kserve, namespace: web, name: llm, take_over: true}}
    - {accelerator: h100, least: 1, most: 4, where: {kind: buffer, name: room, pool: h100-owned, filled_by: app=chat}}
    """


def read(text: str) -> tuple[Serving, ...]:
    """Read the list."""
    return guide.read("serving:" + indent(dedent(text), "  "), FLEET)


def test_the_list_of_the_guide_is_read() -> None:
    """As it stands there."""
    found = guide.read(guide.listed(), FLEET)
    assert [entry.key for entry in found] == ["hpa web/chat", "keda search/answers", "buffer gangplan/room"]


def test_each_kind_is_read() -> None:
    """With what it may say and what it need not."""
    found = read(WHOLE)
    assert [type(entry.where) for entry in found] == [Hpa, Keda, KServe, Buffer]
    assert [entry.key for entry in found] == ["hpa web/chat", "keda web/q", "kserve web/llm", "buffer gangplan/room"]
    assert found[1].level == 0.95
    assert found[3].gpus_of(FLEET) == 8


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{accelerator: h100, gpus_per_replica: 2, where: {kind: hpo, namespace: a, name: b}}", "where"),
        ("{accelerator: h100, gpus_per_replica: 2, where: {kind: hpa, namespace: a, nam: b}}", "nam"),
        (
            "{accelerator: h100, gpus_per_replica: 2, where: {kind: hpa, namespace: a, name: B}}",
            "not the name of an obj",
        ),
        ("{accelerator: h100, where: {kind: hpa, namespace: a, name: b}}", "gpus_per_replica.* is missing"),
        ("{accelerator: h100, gpus_per_replica: 0, where: {kind: hpa, namespace: a, name: b}}", "greater than 0"),
        ("{accelerator: h100, gpus_per_replica: 8, where: {kind: buffer, name: b, pool: h100-owned}}", "leave it out"),
        ("{accelerator: h100, where: {kind: buffer, name: b, pool: h100}}", "pools: 'h100' is not in the fleet"),
        ("{accelerator: l4, gpus_per_replica: 1, where: {kind: hpa, namespace: a, name: b}}", "name its `pools`"),
        (
            "{accelerator: h100, gpus_per_replica: 1, level: 0.8, where: {kind: hpa, namespace: a, name: b}}",
            "0.8 is no",
        ),
        (
            "{accelerator: h100, gpus_per_replica: 1, least: 2, most: 1, where: {kind: hpa, namespace: a, name: b}}",
            "most",
        ),
    ],
)
def test_each_mistake_is_named(line: str, said: str) -> None:
    """With the file."""
    with pytest.raises(InputError, match=said) as error:
        read(f"\n- {line}")
    assert "targets.yaml" in str(error.value)


def test_one_object_has_one_minimum() -> None:
    """Also where one entry calls a buffer by the kind that it has."""
    room: dict[str, Any] = {"name": "room", "pool": "h100-owned"}
    for twice in (
        [chat(), chat(tenant="search")],
        [
            chat(gpus_per_replica=None, where=Buffer(**room)),
            chat(gpus_per_replica=None, where=Buffer(kind="placeholders", **room)),
        ],
    ):
        with pytest.raises(InputError, match=r"stands twice: one object has one minimum"):
            check_serving(twice, FLEET)


def test_spot_serves_only_where_it_is_named() -> None:
    """By the pool's name."""
    check_serving([chat(accelerator="l4", pools=("l4-spot",))], FLEET)
