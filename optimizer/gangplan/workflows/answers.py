"""A question to a person that stays open for a while: since when it is asked, and what was answered.

A reviewer answers by `gangplan review` and `gangplan plan`, on gangplan's page, or on MLflow's: there by moving the
alias, or by the tag `gangplan.answer` (approve or reject) on the model's version or on the plan's run, with the tags
`gangplan.by` and `gangplan.why` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gangplan import forecast, plan
from gangplan.clock import parse_utc
from gangplan.config import Settings
from gangplan.tracking import MODEL, Store, open_store
from gangplan.types import PlanId
from gangplan.workflows.plans import needs_approval
from gangplan.workflows.questions import ASKED, Answer

ANSWER = "gangplan.answer"
"""The tag by which somebody answers on MLflow's page."""

_YES, _NO = ("approve", "approved", "yes"), ("reject", "rejected", "no")


@dataclass(frozen=True, kw_only=True)
class Open:
    """A question without an answer, and why it has none."""

    why: str


def model_answer(settings: Settings, version: str) -> Answer | Open:
    """Return what was decided about a version, or answered on MLflow's page; else why that is open."""
    store = open_store(settings)
    forecast.record_manual_changes(store, settings.clock)
    shown = forecast.show_version(store, version)
    if (decided := shown.decision) is not None:
        return Answer(approved=decided.action.makes_champion, by=decided.by, why=decided.why)
    given = _tagged(store.client.get_model_version(MODEL, version).tags)
    standing = forecast.standing(store, version)
    if standing is None or standing.done or (isinstance(given, Answer) and not given.approved):
        return given
    days = f"{standing.days:.1f} of {standing.needed:g} days beside the champion are over"
    return Open(why=days if isinstance(given, Open) else f"{given.by} approved it, and {days}")


def plan_answer(settings: Settings, plan_id: PlanId) -> Answer | Open:
    """Return what was decided about a plan, or answered on MLflow's page; else why that is open."""
    store = open_store(settings)
    planned, _ = plan.read_plan(store, plan_id)
    tags: dict[str, str] = store.client.get_run(str(planned.run_id)).data.tags
    for state in ("rejected", "approved"):
        if tags.get(state) == "yes":
            return _noted(tags[f"{state}.note"], approved=state == "approved")
    if not needs_approval(planned, settings):
        return Answer(approved=True, by="nobody", why="no approval is asked for: see publication and approve_above")
    return _tagged(tags)


def model_asked(settings: Settings, version: str, name: str) -> datetime:
    """Return since when a version is asked about in that name; the first time, that is now, and is kept."""
    client = open_store(settings).client
    tags = client.get_model_version(MODEL, version).tags
    return _since(settings, name, tags, lambda tag, value: client.set_model_version_tag(MODEL, version, tag, value))


def plan_asked(settings: Settings, plan_id: PlanId, name: str) -> datetime:
    """Return since when a plan is asked about in that name; the first time, that is now, and is kept."""
    store = open_store(settings)
    run_id, tags = _run(store, plan_id)
    return _since(settings, name, tags, lambda tag, value: store.client.set_tag(run_id, tag, value))


def _run(store: Store, plan_id: PlanId) -> tuple[str, Mapping[str, str]]:
    """Return the run of a plan, and its tags."""
    run_id = str(plan.read_plan(store, plan_id)[0].run_id)
    return run_id, store.client.get_run(run_id).data.tags


def _since(settings: Settings, name: str, tags: Mapping[str, str], set_tag: Callable[[str, str], object]) -> datetime:
    """Return the moment that is kept under a name, or keep this one; nobody else needs to ask."""
    tag = f"{ASKED}.{name}"
    if tag in tags:
        return parse_utc(tag, tags[tag])
    since = settings.clock()
    set_tag(tag, since.isoformat())
    set_tag(ASKED, "yes")
    return since


def _tagged(tags: Mapping[str, str]) -> Answer | Open:
    """Read an answer that was given by tags."""
    word = tags.get(ANSWER, "").strip()
    if not word:
        return Open(why="nobody has answered yet")
    if word.lower() not in (*_YES, *_NO):
        return Open(why=f"the tag {ANSWER} is {word!r}: write approve or reject")
    return Answer(
        approved=word.lower() in _YES,
        by=f"{tags.get(forecast.BY_TAG, '').strip() or 'somebody'} (MLflow)",
        why=tags.get(forecast.WHY_TAG, "").strip() or "no reason was given",
    )


def _noted(note: str, *, approved: bool) -> Answer:
    """Read the note of a decision on a plan: when, by whom, why."""
    by, _, why = note.partition(" by ")[2].partition(": ")
    return Answer(approved=approved, by=by, why=why)
