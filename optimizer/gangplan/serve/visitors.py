"""Who looks at the page, and what they may do: the host, such as Airflow, says it for each request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gangplan.types import Reservation

HIDDEN = "(not shown to you)"
"""In place of a request key that a visitor may not see."""


class Right(StrEnum):
    """What a visitor may do beside looking."""

    REVIEW_MODEL = "approve or reject a model"
    REVIEW_PLAN = "approve or reject a plan"
    PUBLISH = "publish a plan"
    CANCEL = "cancel a reservation"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A place outside this page, such as the DAG run that a reservation belongs to."""

    text: str
    href: str


class Visitor(Protocol):
    """A user of the host. A request without one is refused by the host before any page is made."""

    @property
    def name(self) -> str:
        """The name that decisions are kept under, with the host in it: `ada (Airflow)`."""
        ...

    def may(self, right: Right, key: str = "") -> bool:
        """Tell whether the visitor may do this; `key` is the request key of the reservation to cancel."""
        ...

    def hidden(self, keys: Iterable[str]) -> frozenset[str]:
        """Return those of the request keys whose owner the visitor may not see."""
        ...

    def links(self, key: str) -> tuple[Link, ...]:
        """Return where the owner of a request key is found in the host."""
        ...


class Eyes:
    """What one visitor sees of reservations and of sentences about them."""

    def __init__(self, visitor: Visitor, reservations: Iterable[Reservation]) -> None:
        self._hidden = visitor.hidden({each.request.request_key for each in reservations})
        longest_first = sorted(self._hidden, key=len, reverse=True)  # a key may begin another
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if self._hidden else None

    def key(self, reservation: Reservation) -> str:
        """Return the request key, or that it is not shown."""
        return HIDDEN if reservation.request.request_key in self._hidden else reservation.request.request_key

    def text(self, sentence: str) -> str:
        """Return a sentence without the keys that are not shown."""
        return sentence if self._pattern is None else self._pattern.sub(HIDDEN, sentence)
