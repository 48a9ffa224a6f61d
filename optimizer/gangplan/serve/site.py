"""The web application's parts, and how a page is rendered for one visitor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import jinja2
from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import GangplanError
from gangplan.pages import DARK, LIGHT, NOTHING, moment, templates
from gangplan.serve.live import Live
from gangplan.serve.shelf import Shelf
from gangplan.serve.visitors import Right, Visitor

HERE = Path(__file__).parent
STATIC = {"htmx.min.js": "text/javascript", "page.js": "text/javascript", "htmx.LICENSE": "text/plain"}
PAGE_ROWS = 20
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Paged(Generic[T]):
    """One page of a long list; `name` is the query's parameter that turns it."""

    rows: Sequence[T]
    page: int
    pages: int
    total: int
    name: str
    first: int


def paged(rows: Sequence[T], request: Request, name: str = "page", size: int = PAGE_ROWS) -> Paged[T]:
    """Return the page of a list that the query asks for, or the nearest that there is."""
    pages = max(1, -(-len(rows) // size))
    page = min(asked_page(request, name), pages)
    first = (page - 1) * size
    return Paged(rows=rows[first : first + size], page=page, pages=pages, total=len(rows), name=name, first=first + 1)


def asked_page(request: Request, name: str) -> int:
    """Return the number that the query asks for, 1 or more; Python reads no number of thousands of digits."""
    asked = request.query_params.get(name, "1")
    return max(1, int(asked[:9])) if asked.isdecimal() else 1


@dataclass(frozen=True, kw_only=True)
class Empty:
    """A part of a page that has nothing to show, and what to do about it."""

    why: str


def is_empty(value: object) -> bool:
    """Tell whether a part of a page has nothing to show."""
    return isinstance(value, Empty)


def try_read(work: Callable[[], T]) -> T | Empty:
    """Return what is read, or why there is nothing yet: its error names the remedy."""
    try:
        return work()
    except GangplanError as error:
        return Empty(why=str(error))


@dataclass(frozen=True, kw_only=True)
class Site:
    """The ledger, MLflow and the settings behind the pages."""

    live: Live
    shelf: Shelf
    settings: Callable[[], Settings]
    clock: Clock

    @cached_property
    def environment(self) -> jinja2.Environment:
        """The templates."""
        made = templates(HERE / "html")
        filters: dict[str, Callable[..., Any]] = {"when": when, "codes": codes}
        made.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]
        return made

    @cached_property
    def stamp(self) -> str:
        """A name that changes with the scripts, so that browsers may keep them."""
        return sha256(b"".join((HERE / "static" / name).read_bytes() for name in sorted(STATIC))).hexdigest()[:12]

    def render(self, request: Request, template: str, title: str, **values: Any) -> HTMLResponse:
        """Return a page."""
        shown: dict[str, Any] = {
            "light": LIGHT,
            "dark": DARK,
            "root": root_of(request),
            "stamp": self.stamp,
            "title": title,
            "here": template.partition(".")[0],
            "link": partial(_link, request),
            "visitor": visitor_of(request),
            "is_empty": is_empty,
            "query": request.query_params,
            "now": self.clock(),
            "address": self.shelf.address,
            **values,
        }
        return HTMLResponse(self.environment.get_template(template).render(shown))


def root_of(request: Request) -> str:
    """Return the path under which the application is mounted."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def visitor_of(request: Request) -> Visitor:
    """Return who asks."""
    return request.state.visitor


def require(request: Request, right: Right, key: str = "") -> Visitor:
    """Return who asks, or refuse one who may not do this."""
    visitor = visitor_of(request)
    if not visitor.may(right, key):
        raise HTTPException(403, f"{visitor.name} may not {right.value}: ask whoever gives out roles")
    return visitor


def when(value: datetime | None) -> str | Markup:
    """Return a `<time>` in UTC; the page's script adds the browser's zone as a tooltip."""
    if value is None:
        return NOTHING
    return Markup('<time datetime="{}">{}</time>').format(value.isoformat(), moment(value))


def codes(sentence: str) -> Markup:
    """Return a sentence whose parts in backquotes are code."""
    parts = sentence.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _link(request: Request, **changes: Any) -> str:
    """Return the present address with some parameters changed; None takes one away."""
    query: dict[str, Any] = {**request.query_params, **changes}
    return "?" + urlencode({name: value for name, value in query.items() if value is not None})
