"""The pictures in docs/pictures are those that their script draws, each is shown, and each is whole."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRAWN: dict[str, Any] = {
    draw.__name__: draw() for draw in runpy.run_path(str(ROOT / "scripts" / "draw_pictures.py"))["PICTURES"]
}
FILES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))


def test_pictures_are_as_drawn() -> None:
    """`python scripts/draw_pictures.py` would change no file, and none is left over."""
    assert {file.stem: file.read_text() for file in FILES} == {name: sketch.svg() for name, sketch in DRAWN.items()}


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_shown_with_words(name: str) -> None:
    """A page shows the picture, with words for who cannot see it."""
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert re.search(rf"!\[[^\]]{{20,}}\]\(pictures/{name}\.svg\)", pages)


@pytest.mark.parametrize("name", DRAWN)
def test_picture_stays_on_its_card(name: str) -> None:
    """Boxes and lines lie on the card, and so do words as wide as a common font makes them."""
    root = ET.fromstring(DRAWN[name].svg())  # noqa: S314 - our own file
    _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
    for part in root:
        at = {
            key: float(value) for key, value in part.attrib.items() if key in ("x", "y", "width", "height", "x2", "y2")
        }
        assert 0 <= at.get("x", 0) + at.get("width", 0) <= width
        assert 0 <= at.get("y", 0) + at.get("height", 0) <= height
        assert at.get("x2", 0) <= width
        assert at.get("y2", 0) <= height
        if part.tag.endswith("text"):
            wide = len(part.text or "") * (7.0 if part.get("class") != "small" else 6.3)
            left = at["x"] - wide * {"start": 0, "middle": 0.5, "end": 1}[part.attrib["text-anchor"]]
            assert left >= 0, part.text
            assert left + wide <= width, part.text
