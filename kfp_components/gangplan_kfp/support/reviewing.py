"""Steps that wait for a person: what is asked, of whom, where and until when; and what a silence means."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gangplan.clock import Clock, in_words
from gangplan.errors import InputError, UnavailableError, WaitTimeoutError
from gangplan.types import require_at_least
from gangplan_kfp.support.steps import run_key, say, settings_from

if TYPE_CHECKING:
    from gangplan.config import Settings
    from gangplan.workflows import Answer, Open

    Look = Callable[[], Answer | Open]

FAIL, REJECT, KEEP = "fail", "reject", "keep"
"""What a silence means: the step fails; it is a no; the question stays open and the pipeline goes on."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a step waits for a person, what happens then, and how often it looks."""

    timeout_seconds: int
    on_timeout: str
    poll_seconds: int

    def __post_init__(self) -> None:
        require_at_least("timeout_seconds", self.timeout_seconds, 0)
        require_at_least("poll_seconds", self.poll_seconds, 1)
        if self.on_timeout not in (FAIL, REJECT, KEEP):
            raise InputError("on_timeout", self.on_timeout, "is none of fail, reject, keep")


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision (approved, rejected, or open where nobody answered), whose it is, and why."""

    decision: str
    by: str
    why: str

    @property
    def approved(self) -> bool:
        """Whether it is a yes."""
        return self.decision == "approved"

    @classmethod
    def from_answer(cls, answer: Answer) -> Decided:
        """Return what an answer decides."""
        return cls(decision="approved" if answer.approved else "rejected", by=answer.by, why=answer.why)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A version as it stands: its figures, the question about it, and what was decided so far."""

    version: str
    figures: Mapping[str, float]
    question: str
    decided: Decided


def evaluate(settings: Mapping[str, Any], *, version: str, pages: str, page: str, mlflow: str, home: str) -> Evaluated:
    """Do what is due in the registry, write the version's page, and say what was decided about it."""
    read = settings_from(settings, mlflow=mlflow, home=home)
    from gangplan import forecast, workflows
    from gangplan.tracking import open_store

    changed = workflows.watch(read)
    if changed is not None:
        say(f"version {changed.version} {changed.action}: {changed.why}")
    store = open_store(read)
    number = version or forecast.challenger(store)
    shown = forecast.show_version(store, number)
    workflows.write_page(read, number, Path(page))
    standing = workflows.model_answer(read, number)
    return Evaluated(
        version=number,
        figures={"wql_percent": shown.wql, "naive_wql_percent": shown.naive_wql, "coverage_80": shown.coverage_80},
        question=_question(read, number, pages),
        decided=_open(standing.why) if isinstance(standing, workflows.Open) else Decided.from_answer(standing),
    )


def review_model(
    settings: Mapping[str, Any], patience: Patience, *, run_id: str, version: str, pages: str, mlflow: str, home: str
) -> tuple[Decided, str]:
    """Wait for the word on a version; return it, and the question in words. A no is carried out, a yes is not."""
    read = settings_from(settings, mlflow=mlflow, home=home)
    name = run_key(run_id, "review")
    from gangplan import forecast, workflows
    from gangplan.tracking import open_store

    number = version or forecast.challenger(open_store(read))

    def refuse(answer: Answer) -> None:
        if forecast.show_version(open_store(read), number).decision is None:
            workflows.decide_model(read, number, answer)

    decided = decide(
        lambda: workflows.model_answer(read, number),
        since=lambda: workflows.model_asked(read, number, name),
        patience=patience,
        clock=read.clock,
        words=f"may version {number} steer? {_who(read)} answers {_where(read, f'review approve {number}', 'version')}",
        refuse=refuse,
    )
    return decided, _question(read, number, pages)


def review_plan(
    settings: Mapping[str, Any], patience: Patience, *, run_id: str, plan_id: str, pages: str, **named: str
) -> tuple[Decided, str]:
    """Wait for the word on a plan where it needs one, and carry it out: a plan that is approved is published, once."""
    read = settings_from(settings, **named)
    name = run_key(run_id, "approve")
    from gangplan import plan, workflows
    from gangplan.reserve import open_ledger
    from gangplan.tracking import open_store
    from gangplan.types import PlanId

    store = open_store(read)
    planned, _ = plan.read_plan(store, PlanId(plan_id) if plan_id else None)
    number = planned.plan_id
    asked = workflows.plan_question(read, number, plans=f"{pages.rstrip('/')}/plans" if pages else "plans:")

    def carry_out(answer: Answer) -> None:
        done = plan.is_published if answer.approved else plan.is_rejected
        if done(store, planned):
            return
        with open_ledger(read.ledger_url, clock=read.clock) as ledger:
            say(workflows.decide_plan(read, ledger, number, answer))

    decided = decide(
        lambda: workflows.plan_answer(read, number),
        since=lambda: workflows.plan_asked(read, number, name),
        patience=patience,
        clock=read.clock,
        words=f"may {number} hold? {_who(read)} answers {_where(read, f'plan approve {number}', 'run')}",
        refuse=carry_out,
        agree=carry_out,
    )
    return decided, f"# {asked['subject']}\n\n{asked['body']}\n"


def of_decided(decided: Decided, question: str) -> str:
    """Return a page about a question and its answer."""
    return f"{question}\n**{decided.decision.capitalize()}** by {decided.by}: {decided.why}\n"


def decide(
    look: Look,
    *,
    since: Callable[[], datetime],
    patience: Patience,
    clock: Clock,
    words: str,
    refuse: Callable[[Answer], None],
    agree: Callable[[Answer], None] = lambda _: None,
) -> Decided:
    """Wait for an answer, or for the end of the patience; carry the answer out, and return what it decides.

    A step that runs again has the time that its first run left: it began when it first asked.
    """
    from gangplan.workflows import Answer, Open

    found = look()
    if isinstance(found, Open):
        until = since() + timedelta(seconds=patience.timeout_seconds)
        found = _wait(look, found, until, clock, words, patience.poll_seconds)
    if isinstance(found, Open):
        silence = f"nobody answered in {in_words(timedelta(seconds=patience.timeout_seconds))}: {found.why}"
        if patience.on_timeout == FAIL:
            raise WaitTimeoutError(f"timeout_seconds: {words}: {silence}")
        if patience.on_timeout == KEEP:
            say(f"open: {silence}")
            return _open(silence)
        found = Answer(approved=False, by="the review gate", why=silence)
    (agree if found.approved else refuse)(found)
    decided = Decided.from_answer(found)
    say(f"{decided.decision} by {decided.by}: {decided.why}")
    return decided


def _open(why: str) -> Decided:
    """Return that nothing is decided yet."""
    return Decided(decision="open", by="nobody", why=why)


def _wait(look: Look, found: Answer | Open, until: datetime, clock: Clock, words: str, every: int) -> Answer | Open:
    """Look again and again until there is an answer or the time is over; say why it waits whenever that changes.

    A store that cannot be reached for a while is such a reason, too.
    """
    from gangplan.workflows import Open

    last = ""
    while isinstance(found, Open):
        left = until - clock()
        if left <= timedelta(0):
            return found
        if (line := f"waiting until {until:%Y-%m-%d %H:%M} UTC, {in_words(left)}: {words}: {found.why}") != last:
            last = line
            say(line)
        time.sleep(min(left.total_seconds(), every))
        try:
            found = look()
        except UnavailableError as error:
            found = Open(why=str(error))
    return found


def _question(settings: Settings, version: str, pages: str) -> str:
    """Return what is asked about a version, with a link to gangplan's page about it, or to MLflow's."""
    from gangplan import workflows
    from gangplan.tracking import MODEL
    from gangplan.urls import is_http, shown

    uri = settings.mlflow_uri
    on_mlflow = f"{shown(uri).rstrip('/')}/#/models/{MODEL}/versions" if is_http(uri) else f"models:/{MODEL}"
    asked = workflows.question(settings, version, models=f"{pages.rstrip('/')}/models" if pages else on_mlflow)
    return f"# {asked['subject']}\n\n{asked['body']}\n"


def _who(settings: Settings) -> str:
    """Return who is asked."""
    return " or ".join(settings.reviewers) or "whoever may write to MLflow's registry"


def _where(settings: Settings, command: str, what: str) -> str:
    """Return where the answer is given."""
    from gangplan.urls import is_http, shown

    uri = settings.mlflow_uri
    place = f"on {shown(uri)}" if is_http(uri) else "on MLflow's page"
    return f"by `gangplan {command} --by NAME --why REASON`, or {place} by the tag gangplan.answer of the {what}"
