"""The site holds every page once, its fences are Markdown's own, and each decision has its headings."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def pages(nav: Any) -> Iterator[str]:
    """Return the files of a navigation, at any depth."""
    if isinstance(nav, str):
        yield nav
    for part in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from pages(part)


def test_every_page_stands_in_the_navigation_once() -> None:
    """No page is left out, and none is listed twice."""
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("**/*.md")}
    assert Counter(pages(SITE["nav"])) == Counter(there)


def test_the_navigation_has_four_parts() -> None:
    """Behind the home page: learn, do, understand, look up."""
    assert [name for part in SITE["nav"] for name in part] == ["Home", "Learn", "Do", "Understand", "Look up"]


def test_a_fence_keeps_its_language_alone() -> None:
    """The second word of a fence is for our tests; text and other fences stay as they are."""
    hook = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))["on_page_markdown"]
    page = "say `bash make`\n\n```bash make\nmake run\n```\n\n```python\nx = 1\n```\n"
    assert hook(page, page=None, config=None, files=None) == page.replace("```bash make", "```bash")


def test_the_list_of_commands_is_that_of_the_command_line() -> None:
    """Each command and each of its subcommands has a heading and its options."""
    hook = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))["on_page_markdown"]
    page = hook("# Commands\n\n<!-- commands -->\n")
    assert "## `gangplan reserve`" in page
    assert "## `gangplan plan explain ID`" in page
    assert "| `--tenant` | required | Who asks. |" in page
    assert "None" not in page


@pytest.mark.parametrize("record", DECISIONS, ids=lambda record: record.stem)
def test_a_decision_has_its_headings(record: Path) -> None:
    """Each record has a number, a date, a status and the same four parts, and the index lists it."""
    text = record.read_text()
    assert text.startswith(f"# {int(record.name[:4])}. ")
    assert re.search(r"^Date: \d+ \w+ \d{4}\. Status: ", text, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Tried and dropped", "Consequences"]
    assert f"({record.name})" in (record.parent / "index.md").read_text()
