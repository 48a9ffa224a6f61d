"""The templates of the report's pages, with our words for values."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from gangplan.report.words import duration, moment, number, share
from gangplan.templates import templates


def environment() -> jinja2.Environment:
    """Return them."""
    found = templates(Path(__file__).parent)
    found.filters.update(moment=moment, number=number, share=share, duration=duration, breakable=_breakable)  # pyright: ignore[reportUnknownMemberType]
    return found


def _breakable(cell: str) -> Markup:
    """Let a long key break after its slashes; all else is escaped."""
    return escape(cell).replace("/", Markup("/<wbr>"))
