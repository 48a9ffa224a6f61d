"""The pages about demand models: how the forecast does, the versions, and a person's word on one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from fastapi import Request
from fastapi.responses import HTMLResponse

from gangplan.extras import needs_extras
from gangplan.serve.ledger_pages import Reason
from gangplan.serve.site import Site, paged, require, try_read, visitor_of
from gangplan.serve.visitors import Right

if TYPE_CHECKING:
    from gangplan.forecast import ModelVersion, ShadowStanding
    from gangplan.tracking import Store
    from gangplan.types import Score, Usage

Look = Literal["", "dark", "light"]
"""The colours of a report; empty: the system's."""

NO_REASON = "no reason was given"
_PAGE = "write it with `gangplan review show {} --page`, or let the DAG gangplan_review ask"


class Answer(Reason):
    """A person's word on a model version."""

    answer: Literal["approve", "reject"]


@dataclass(frozen=True, kw_only=True)
class ForecastHealth:
    """How the forecast does: what the champion's back-test promised, and what came of the last scored day.

    WQL is in per cent of mean demand, coverage from 0 to 1. `notes` say what a reader must know of the telemetry.
    """

    champion: ModelVersion | None
    telemetry_end: datetime
    source: str
    notes: tuple[str, ...]
    score: Score | None
    late_after: timedelta

    def is_late(self, now: datetime) -> bool:
        """Whether telemetry ended longer ago than the setting `late_after_hours` calls fresh."""
        return now - self.telemetry_end > self.late_after

    @property
    def verdict(self) -> str:
        """How the last scored day compares with the promise, in words."""
        if self.champion is None:
            return "No model steers yet: run `gangplan train`."
        if self.score is None:
            return "Nothing was scored yet: the DAG gangplan_feedback, or `gangplan feedback`, does it once a day."
        factor = self.score.wql / self.champion.wql if self.champion.wql > 0 else 1.0
        if factor <= 1.2:
            return "As good as its back-test promised."
        return (
            f"Its loss is {factor:.1f} times what its back-test promised: the DAG gangplan_drift says whether by luck."
        )


@dataclass(frozen=True, kw_only=True)
class ModelPages:
    """The handlers."""

    site: Site

    def models(self, request: Request) -> HTMLResponse:
        """List the versions, the one that waits for a person first in words."""
        versions = try_read(lambda: self.site.shelf.read("versions", _versions))
        rows = versions if isinstance(versions, tuple) else ()
        waiting = next((each for each in rows if waits(each)), None)
        return self.site.render(
            request,
            "models.html.j2",
            "Models",
            versions=versions,
            rows=paged(rows, request),
            waiting=waiting,
            health=try_read(self.health),
        )

    def model(self, request: Request, version: str) -> HTMLResponse:
        """Show one version with its report, and ask for a decision where one is open."""
        shown, standing = self.site.shelf.read(f"version {version}", lambda store: _version(store, version))
        may = visitor_of(request).may(Right.REVIEW_MODEL)
        report = try_read(lambda: self._report(version))
        return self.site.render(
            request,
            "model.html.j2",
            f"Model {version}",
            each=shown,
            standing=standing,
            report=report,
            decides=may and waits(shown),
            waits=waits(shown),
        )

    def report(self, version: str, look: Look = "") -> HTMLResponse:
        """Return the report about a version as it lies in MLflow; it may neither run scripts nor fetch anything."""
        return boxed(self._report(version), look)

    def decide(self, request: Request, version: str, body: Answer) -> dict[str, str]:
        """Approve or reject a version in the visitor's name."""
        visitor = require(request, Right.REVIEW_MODEL)
        with needs_extras():
            from gangplan import forecast
        decide = forecast.approve if body.answer == "approve" else forecast.reject
        why = body.why.strip() or NO_REASON
        decided = decide(self.site.shelf.store(), version, by=visitor.name, why=why, clock=self.site.clock)
        self.site.shelf.forget()
        return {"message": f"Version {version} is {decided.changes[-1].action.value}, by {visitor.name}."}

    def health(self) -> ForecastHealth:
        """Return how the forecast does."""
        usage, versions = self.usage(), self.site.shelf.read("versions", _versions)
        return ForecastHealth(
            champion=next((each for each in versions if "champion" in each.aliases), None),
            telemetry_end=usage.end,
            source=usage.source,
            notes=usage.notes,
            score=self.site.shelf.read("score", _score),
            late_after=timedelta(hours=self.site.settings().late_after_hours),
        )

    def usage(self) -> Usage:
        """Return the telemetry as it is known now."""
        return self.site.shelf.read("usage", partial(_usage, now=self.site.clock()))

    def _report(self, version: str) -> str:
        shown, _ = self.site.shelf.read(f"version {version}", lambda store: _version(store, version))
        return self.site.shelf.page(shown.run_id, "review.html", _PAGE.format(version))


def waits(version: ModelVersion) -> bool:
    """Tell whether a person may decide on a version: it passed the gate, and nobody has decided since."""
    undecided = bool(version.changes) and version.changes[-1].action.value == "waiting"
    return version.gate == "passed" and undecided


def boxed(text: str, look: Look = "") -> HTMLResponse:
    """Return a page that a stage wrote: without scripts, without anything from elsewhere, in the host's colours."""
    if look:
        text = text.replace("<html", f'<html class="{look}"', 1)
    policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


def _versions(store: Store) -> tuple[ModelVersion, ...]:
    from gangplan import forecast

    return forecast.list_versions(store)


def _version(store: Store, version: str) -> tuple[ModelVersion, ShadowStanding | None]:
    from gangplan import forecast

    return forecast.show_version(store, version), forecast.standing(store, version)


def _usage(store: Store, *, now: datetime) -> Usage:
    from gangplan import telemetry

    return telemetry.read_usage(store, now)


def _score(store: Store) -> Score | None:
    from gangplan import feedback

    return feedback.read_score(store)
