"""The list of docs/execute-serving.md, as a reader would copy it."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from gangplan.execute.prewarm import Serving, check_serving
from gangplan.types import Fleet
from gangplan.yaml_files import parse_yaml, validated

PAGE = Path(__file__).resolve().parents[3] / "docs" / "execute-serving.md"


def listed() -> str:
    """Return the page's only block of YAML."""
    (text,) = [token.content for token in MarkdownIt().parse(PAGE.read_text()) if token.info == "yaml"]
    return text


def read(text: str, fleet: Fleet) -> tuple[Serving, ...]:
    """Read the list `serving` of a text, and check it against the fleet."""
    document = parse_yaml(text, "targets", "targets.yaml")
    with document.naming_lines():
        found = validated(TypeAdapter(tuple[Serving, ...]), document.body["serving"], "serving")
        check_serving(found, fleet)
        return found
