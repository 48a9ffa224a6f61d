"""The templates of the pages that we write, with our words for values."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from gangplan.pages.words import duration, moment, number, share

_SHARED = Path(__file__).parent  # parts.html.j2 lies here, and every page may use it


def templates(folder: Path) -> jinja2.Environment:
    """Return a folder's templates: every value is escaped, and a name that is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(moment=moment, number=number, share=share, duration=duration, breakable=_breakable)  # pyright: ignore[reportUnknownMemberType]
    return environment


def _breakable(cell: str) -> Markup:
    """Let a long key break after its slashes; all else is escaped."""
    return escape(cell).replace("/", Markup("/<wbr>"))
