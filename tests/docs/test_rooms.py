"""The rooms are drawn as the imports say, without arrows that a longer way implies, and an old drawing is noticed."""

from __future__ import annotations

import importlib
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, as a module."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    yield importlib.import_module("draw_rooms")
    sys.modules.pop("draw_rooms")


def made_up(draw: ModuleType, **changes: set[str]) -> Any:
    """Return five rooms: a command over a joiner over two stages over one room of the base."""
    imports = {
        "gangplan.command": {"gangplan.joiner", "gangplan.first", "gangplan.values"},
        "gangplan.joiner": {"gangplan.first", "gangplan.second"},
        "gangplan.first": {"gangplan.values"},
        "gangplan.second": {"gangplan.values"},
        "gangplan.values": set[str](),
    } | {f"gangplan.{name}": others for name, others in changes.items()}
    modules = frozenset([*imports, "gangplan.first.inner", "gangplan.first.inner.file"])
    return draw.Rooms(modules=modules, imports=imports, stages=("gangplan.second", "gangplan.first"))


def test_arrows_that_a_longer_way_implies_are_left_out(draw: ModuleType) -> None:
    """The command's own import of a stage is implied by the joiner's; arrows to the base are never drawn."""
    rooms = made_up(draw)
    assert rooms.base == ["gangplan.values"]
    assert rooms.above["gangplan.command"] == {"gangplan.joiner"}
    assert rooms.above["gangplan.joiner"] == {"gangplan.first", "gangplan.second"}
    assert rooms.above["gangplan.first"] == set()


def test_a_room_stands_above_what_it_imports(draw: ModuleType) -> None:
    """Rows go up from the stages, which keep the order of their contract."""
    assert made_up(draw).rows() == [
        ["gangplan.second", "gangplan.first"],
        ["gangplan.joiner"],
        ["gangplan.command"],
    ]


def test_the_drawing_names_rooms_and_those_inside(draw: ModuleType) -> None:
    """Each room has its box, each room inside its line, and all lie on the card."""
    root = ET.fromstring(draw.drawing(made_up(draw)))  # noqa: S314 - our own file
    words = [part.text for part in root if part.tag.endswith("text")]
    assert {"command", "joiner", "first", "second", "inner", "values"} <= set(words)
    _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
    for part in root:
        assert float(part.get("x", 0)) + float(part.get("width", 0)) <= width
        assert float(part.get("y", 0)) + float(part.get("height", 0)) <= height


def test_a_circle_is_named(
    draw: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where rooms import each other in a circle, there is nothing to draw: the circle is said."""
    monkeypatch.setattr(draw, "read_rooms", lambda: made_up(draw, joiner={"gangplan.command", "gangplan.first"}))
    assert draw.main(["--check"]) == 1
    assert "circle" in capsys.readouterr().err


def test_the_files_are_fresh_and_an_old_one_is_noticed(
    draw: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` passes on the repository's own files, and names one that differs."""
    assert draw.main(["--check"]) == 0
    monkeypatch.setattr(draw, "ROOT", tmp_path)
    monkeypatch.setattr(draw, "PAGE", tmp_path / "rooms.md")
    rooms = made_up(draw)
    monkeypatch.setattr(draw, "read_rooms", lambda: rooms)
    monkeypatch.setattr(draw, "DRAWING", tmp_path / "rooms.svg")
    monkeypatch.setattr(draw, "words", lambda room: f"what {room} does")
    assert draw.main([]) == 0
    assert draw.main(["--check"]) == 0
    (tmp_path / "rooms.md").write_text("old")
    assert draw.main(["--check"]) == 1
    assert "rooms.md" in capsys.readouterr().err
