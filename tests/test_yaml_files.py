"""YAML files are read strictly: each kind of file names file, line, field and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gangplan.config import load_settings, read_fleet
from gangplan.errors import InputError
from gangplan.reserve import read_policy
from gangplan.yaml_files import parse_yaml

POOL = "pools:\n- name: p\n  accelerator: h100\n  gpus_per_node: 8\n  kind: owned\n  max_nodes: 4\n"
INLINE = (
    "pools: [{price_per_node_hour: 31,20, name: p, accelerator: h100, gpus_per_node: 8, kind: owned, max_nodes: 4}]"
)
OWN = "chip:\n  kind: asic\n  memory_gb: 64\n  features: [training]\n  owned_factor: 0.5\n  spot_factor: 0.4\n"


def plan_policy(path: Path) -> object:
    """Read a plan's policy."""
    return pytest.importorskip("gangplan.plan.problem.policy").read_plan_policy(path)


def catalogue(path: Path) -> object:
    """Read a catalogue."""
    return pytest.importorskip("gangplan.plan.problem.catalogue").read_catalogue(path)


CASES: list[tuple[Callable[[Path], object], str, str, int, str]] = [
    (
        read_fleet,
        f"{POOL}  price_per_node_hour: 31.2\n  price_per_node_hour: 3.12\n",
        "price_per_node_hour",
        8,
        "twice",
    ),
    (read_fleet, f"{POOL}  price_per_node_hour: 31,20\n", "pools.0.price_per_node_hour", 7, "number"),
    (read_fleet, f"{POOL}  price_per_node_hour: -1\n", "pools[p].price_per_node_hour", 7, "at least"),
    *[
        (read_fleet, f"{POOL}  price_per_node_hour: {price}\n", "pools.0.price_per_node_hour", 7, "must be a number")
        for price in ("€31.20", "$31.20", "31.20 EUR", "31.20.1", "null", "'31,20'", "[31, 20]")
    ],
    *[
        (read_fleet, f"{POOL}  price_per_node_hour: {price}\n", "pools[p].price_per_node_hour", 7, "at least 0")
        for price in (".nan", ".inf", "-.inf", "1e400", "-0.01")
    ],
    *[
        (read_fleet, f"{POOL}  price_per_node_hour: {price}\n", "pools.0.price_per_node_hour", 7, f"read as {read}:")
        for price, read in (("010", 8), ("0x10", 16), ("0b11", 3), ("31:20", 1880), ("31:20.5", 1880.5), ("0_7", 7))
    ],
    (read_fleet, INLINE, "pools.0.20", 1, "decimal point, not a comma"),
    (read_fleet, f"{POOL}  price_per_node_hour: 3\n  currency: EUR\n", "pools.0.currency", 8, "spelling"),
    (plan_policy, "change_hours: 1\ncarbon_cap_kg: 3\nchange_hours: 2\n", "change_hours", 3, "twice"),
    (plan_policy, "carbon_cap_kg: 3\nchange_hours: soon\n", "plan policy.change_hours", 2, "number"),
    (plan_policy, "carbon_cap_kg: 3\nclasses:\n  cost: {spto: true}\n", "plan policy.classes.cost.spto", 3, "spelling"),
    (catalogue, f"{OWN}  gpus_per_node: 8\n  on_demand: 1\n  gpus_per_node: 4\n", "gpus_per_node", 9, "twice"),
    (catalogue, f"{OWN}  gpus_per_node: 8\n  on_demand: dear\n", "accelerators.chip.on_demand", 8, "number"),
    (catalogue, f"{OWN}  gpus_per_node: 8\n  on_demand: 1\n  tflops: 3\n", "accelerators.chip.tflops", 9, "spelling"),
    (read_policy, "depth: 3\nclaim: 5m\ndepth: 4\n", "depth", 3, "twice"),
    (read_policy, "claim: 5m\ndepth: deep\n", "depth", 2, "integer"),
    (read_policy, "tenants:\n  vision:\n    wieght: 2\n", "tenants[vision].wieght", 3, "use one of weight"),
]


@pytest.mark.parametrize(("read", "text", "field", "line", "remedy"), CASES)
def test_a_mistake_names_file_line_field_and_remedy(
    read: Callable[[Path], object], text: str, field: str, line: int, remedy: str, tmp_path: Path
) -> None:
    """A repeated key, a wrong type and an unknown key are refused in every kind of file."""
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read(file)
    assert caught.value.field == field
    assert f"file.yaml line {line}" in str(caught.value) or f"and line {line})" in str(caught.value)
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_setting_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """The settings' file is read as strictly as the others."""
    (tmp_path / "gangplan.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(InputError, match=r"seed: '2' stands twice .*line 1 and line 2"):
        load_settings(home=tmp_path)


def test_what_an_alias_repeats_is_read_once() -> None:
    """Aliases that multiply, or that contain themselves, take no time."""
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    assert len(parse_yaml("\n".join(lines), "bomb", "bomb.yaml").places) < 200
    assert parse_yaml("a: &a [*a]", "loop", "loop.yaml").places["a"][0] == 1


@pytest.mark.parametrize(("price", "read"), [("31.2", 31.2), ("1_000", 1000), ("0", 0), ("0.5", 0.5), ("1.5e+3", 1500)])
def test_a_number_is_read_as_it_is_written(price: str, read: float, tmp_path: Path) -> None:
    """Plain numbers, those with groups of digits, and those with an exponent."""
    file = tmp_path / "fleet.yaml"
    file.write_text(f"{POOL}  price_per_node_hour: {price}\n")
    assert read_fleet(file).pools[0].price_per_node_hour == read


def test_times_and_digests_are_no_numbers_in_another_notation() -> None:
    """Only what YAML takes for a number is looked at; what is quoted is text."""
    body = parse_yaml("at: 2026-03-02T10:30:00Z\nsha: 0abc\nspan: '1:30'\nurl: http://host:80\n", "f", "f").body
    assert (body["sha"], body["span"], body["url"]) == ("0abc", "1:30", "http://host:80")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pools:\n\t- name: h100\n", r"f line 2' is not YAML.*a tab: indent with blanks"),
        ("a: 1\n<<<<<<< HEAD\npools: []\n=======\n", r"f line 2' has the mark of an unfinished merge"),
        ("pools: []\n=======\npools: [1]\n>>>>>>> mine\n", r"f line 2' has the mark of an unfinished merge"),
    ],
)
def test_marks_of_an_editor_are_named(text: str, says: str) -> None:
    """A tab, or a merge that nobody finished: the line is named."""
    with pytest.raises(InputError, match=says):
        parse_yaml(text, "fleet", "f")
