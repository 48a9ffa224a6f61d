"""The page that a platform engineer gets: whole, self-contained, readable by machines and people."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gangplan.tables import PLAN_LIMITS, PLAN_SHORTAGE, empty


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text outside of styles."""

    void = ("meta", "br", "wbr", "link", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; those that must be closed are open until they are."""
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost open tag, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, spaces made one."""
        return " ".join(" ".join(self.words).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of that name."""
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_page_is_well_formed(page: str) -> None:
    """Every tag is closed in order, and every id is there once."""
    parsed = Page(page)
    assert parsed.open == []
    ids = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []


def test_every_reference_has_its_target(page: str) -> None:
    """Clip paths, markers, labels and links lead to ids of this page."""
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    wanted = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    labels = {name for value in re.findall(r'aria-labelledby="([^"]+)"', page) for name in value.split()}
    assert {one or other for one, other in wanted} | labels <= ids


def test_the_page_needs_nothing_else(page: str) -> None:
    """No script, no style sheet, no picture, no font: nothing is fetched."""
    parsed = Page(page)
    assert {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object", "embed"} == set()
    fetched = [value for _, attributes in parsed.tags for name, value in attributes.items() if name in ("src", "href")]
    assert all(value is not None and value.startswith("#") for value in fetched)
    assert re.findall(r"@import|url\((?!#)", page) == []
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_all_parts_are_there(page: str) -> None:
    """The page has its figures, charts, explanation and tables."""
    text = Page(page).text
    for heading in (
        "Demand and its forecast",
        "The plan",
        "Who is short, and why",
        "Beside what people do instead",
        "Cost against the alternatives, out of sample",
        "Reservations",
        "How good the forecast is",
        "What feedback changed",
    ):
        assert heading in text
    for figure in ("Demand now", "Peak ahead", "Forecast loss (WQL)", "Plan cost", "Shortage at 0.95", "Mean wait"):
        assert figure in text
    assert "h100-owned (max_nodes 22) runs all the nodes allowed" in text
    assert "8 of 8 GPUs of h100-lab are held by language until 09:05 UTC" in text


def test_charts_can_be_read_aloud(page: str) -> None:
    """Each chart is an image with a title and a description in words, and its text is text."""
    charts = Page(page).all("svg")
    assert (
        len(charts) == 1 + 10 + 1 + 4 + 1 + 1 + 1
    )  # demand, its series, plan, its accelerators, what was carried out, alternatives, reservations
    assert all(chart["role"] == "img" and chart["aria-labelledby"] for chart in charts)
    titles = re.findall(r"<title[^>]*>([^<]*)</title><desc[^>]*>([^<]*)</desc>", page)
    assert len(titles) == len(charts)
    assert all(title and len(words) > 20 for title, words in titles)
    assert ">GPUs asked for</text>" in page


def test_tables_have_captions_and_headings(page: str) -> None:
    """Each table says what it is, and each heading what it heads."""
    parsed = Page(page)
    assert len(parsed.all("table")) == len(parsed.all("caption")) == 7
    assert all(heading["scope"] == "col" for heading in parsed.all("th"))


def test_drawings_follow_the_page_into_the_dark(page: str) -> None:
    """Drawings use the page's colour variables, and every one of them has a light and a dark value."""
    drawn = set(re.findall(r"var\(--([\w-]+)\)", page))
    light, dark = (set(re.findall(r"--([\w-]+):", part)) for part in page.split("prefers-color-scheme: dark")[:2])
    assert drawn - {"font"} <= light
    assert drawn - {"font"} <= dark
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}\b", svgs) == []


def test_empty_parts_say_so(world: Any, tmp_path: Path) -> None:
    """Without reservations, score, shortage or limits the page says so in words."""
    plan = replace(world.plan, shortage=empty(PLAN_SHORTAGE), limits=empty(PLAN_LIMITS))
    path = world.build(
        tmp_path / "index.html", plan=plan, reservations=(), score=None, beliefs=None, alternatives=None, carried=None
    )
    text = Page(path.read_text()).text
    for words in (
        "No reservation has been made yet.",
        "No plan has been held against what happened yet",
        "Nobody is short in any hour",
        "No limit binds",
        "Not run yet: gangplan plan compare",
    ):
        assert words in text


def test_notes_and_age_of_the_telemetry_are_told(world: Any, tmp_path: Path) -> None:
    """What an import says of itself, a replay above all, and how late it was stand in every report made from it."""
    usage = replace(world.usage, notes=("replayed: every time was moved by 70 days",))
    foreseen = replace(world.forecast, known_until=world.forecast.issued_at - timedelta(hours=10))
    text = Page(world.build(tmp_path / "late.html", usage=usage, forecast=foreseen).read_text()).text
    assert "Telemetry: replayed: every time was moved by 70 days" in text
    assert "its last hour ended 10 h before the plan begins" in text


def test_what_telemetry_says_is_never_markup(nasty_world: Any, tmp_path: Path) -> None:
    """A tenant's name, a reason or an explanation that tries to be HTML or mathtext is shown as text."""
    text = nasty_world.build(tmp_path / "index.html").read_text()
    parsed = Page(text)
    assert parsed.all("script") == []
    assert parsed.open == []
    assert "<script" not in text.lower()
    assert parsed.text.count("<script>alert('x')</script>\"&$\\frac$") >= 8


def test_the_page_is_written_whole_or_not_at_all(world: Any, tmp_path: Path) -> None:
    """When the page cannot be made, the page of before stays and nothing is left beside it."""
    path = tmp_path / "index.html"
    path.write_text("the page of before")
    with pytest.raises(AttributeError):
        world.build(path, training=None)
    assert path.read_text() == "the page of before"
    assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_the_same_values_make_the_same_page_quickly(world: Any, page: str, tmp_path: Path) -> None:
    """Nothing random and no time of day goes into the page, and ten series take less than 8 seconds of computing."""
    started = time.process_time()
    assert world.build(tmp_path / "index.html").read_text() == page
    assert time.process_time() - started < 8
