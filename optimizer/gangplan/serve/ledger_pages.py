"""The pages about reservations: the calendar with the line, one reservation, the quotas, and what if a gang came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from gangplan import summaries
from gangplan.errors import InputError
from gangplan.pages import NOTHING, SERIES_ROLES, Tile, duration, number
from gangplan.reserve import Policy, Quotas, holdings
from gangplan.serve import calendar, drawing
from gangplan.serve.live import View
from gangplan.serve.site import Site, asked_page, paged, require, root_of, try_read, visitor_of
from gangplan.serve.visitors import Eyes, Right
from gangplan.types import GangRequest, PodSet, Pool, Reservation, ReservationId, ReservationState, request_from

KEY = "what-if"

_DIGITS = 9
"""No number of the form is longer; Python refuses to read those of thousands of digits."""


class Reason(BaseModel):
    """Why something is done; it may be left out."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field("", max_length=500)


@dataclass(frozen=True, kw_only=True)
class QuotaRow:
    """What one tenant has of one accelerator, in GPUs; `nominal` and `limit` are None without a limit."""

    tenant: str
    cohort: str
    accelerator: str
    used: float
    nominal: int | None
    limit: float | None
    waiting: int

    @property
    def borrowed(self) -> float:
        """GPUs held beyond its own."""
        return 0.0 if self.nominal is None else max(0.0, self.used - self.nominal)


@dataclass(frozen=True, kw_only=True)
class LedgerPages:
    """The handlers."""

    site: Site

    def now(self, request: Request) -> HTMLResponse:
        """Show the calendar and the line."""
        view, query = self.site.live.view(), request.query_params
        laid = calendar.lay_out(
            view,
            span=query.get("span", "day"),
            pool=query.get("pool", ""),
            page=asked_page(request, "nodes"),
            pools=self.site.shelf.pools(),
        )
        eyes = Eyes(visitor_of(request), view.reservations)
        role = calendar.tenant_roles(view, SERIES_ROLES)
        return self.site.render(
            request,
            "now.html.j2",
            "Calendar",
            view=view,
            eyes=eyes,
            tiles=tiles(view),
            calendar=laid,
            gantt=drawing.draw(laid, eyes, role, root=root_of(request)),
            **_legend(view, role),
            line=paged(view.waiting, request, "line"),
            holding=paged(view.holding, request, "holding"),
        )

    def reservation(self, request: Request, id: str) -> HTMLResponse:
        """Show one reservation, where it stands and why, and where its owner is found."""
        view = self.site.live.view()
        shown = next((each for each in view.reservations if each.id == id), None)
        if shown is None:  # it ended before what the calendar shows
            shown = self.site.live.ask(lambda ledger: ledger.get(ReservationId(id)))
        eyes, key = Eyes(visitor_of(request), (*view.reservations, shown)), shown.request.request_key
        hidden = eyes.key(shown) != key
        waiting = view.waiting
        return self.site.render(
            request,
            "reservation.html.j2",
            "Reservation",
            each=shown,
            eyes=eyes,
            position=waiting.index(shown) + 1 if shown in waiting else None,
            links=() if hidden else visitor_of(request).links(key),
            may_cancel=not shown.state.final and not hidden and visitor_of(request).may(Right.CANCEL, key),
        )

    def find(self, request: Request, key: str) -> RedirectResponse:
        """Lead from a request key to its reservation, for links from elsewhere."""
        found = self.site.live.ask(lambda ledger: ledger.find(key))
        return RedirectResponse(f"{root_of(request)}/reservations/{quote(found.id)}", 303)

    def cancel(self, request: Request, id: str, body: Reason) -> dict[str, str]:
        """End a reservation for its owner."""
        shown = self.site.live.ask(lambda ledger: ledger.get(ReservationId(id)))
        key = shown.request.request_key
        require(request, Right.CANCEL, key)
        ended = self.site.live.act(lambda ledger: ledger.cancel(shown.id))
        return {"message": f"The reservation is {ended.state.value}."}

    def listing(self, request: Request, state: ReservationState | None = None) -> JSONResponse:
        """List the reservations as JSON, without the tokens by which their holders act."""
        view = self.site.live.view()
        eyes = Eyes(visitor_of(request), view.reservations)
        rows = [row for row in view.reservations if state in (None, row.state)]
        return JSONResponse([_as_json(row, eyes) for row in rows])

    def quota(self, request: Request) -> HTMLResponse:
        """Show what each tenant holds of what it may hold."""
        view = self.site.live.view()
        rows: Sequence[QuotaRow] = () if view.policy is None else quota_rows(view, view.policy, self.site.shelf.pools())
        scale = max((max(row.used, row.nominal or 0) for row in rows), default=1) or 1
        return self.site.render(
            request, "quota.html.j2", "Quota", view=view, rows=paged(rows, request, size=40), scale=scale
        )

    def what_if(self, request: Request) -> HTMLResponse:
        """Say when a gang would start if it came now; nothing is written."""
        view, asked = self.site.live.view(), bool(request.query_params.get("tenant"))
        answer = try_read(lambda: self._prospect(request)) if asked else None
        return self.site.render(
            request,
            "what_if.html.j2",
            "What if",
            answer=answer,
            tenants=sorted({each.request.tenant for each in view.reservations}),
            accelerators=_accelerators(view, self.site.shelf.pools()),
        )

    def _prospect(self, request: Request) -> dict[str, Any]:
        """Ask the ledger in the viewers' common turn."""
        gang = gang_from(request.query_params)
        starts, reason = self.site.live.ask(lambda ledger: ledger.what_if(gang))
        eyes = Eyes(visitor_of(request), self.site.live.view().reservations)
        return {"gang": gang, "starts": starts, "reason": reason, "eyes": eyes}


def gang_from(given: Mapping[str, str]) -> GangRequest:
    """Read the form: `tenant`, `pods`, `gpus`, `accelerators`, `duration`."""
    counts: dict[str, int] = {}
    for name in ("pods", "gpus"):
        text = given.get(name, "1").strip()
        if not text.isdecimal() or len(text) > _DIGITS:
            raise InputError(name, text[:40], f"is no whole number: give one of 1 or more, of up to {_DIGITS} digits")
        counts[name] = int(text)
    return request_from(
        {
            "request_key": KEY,
            "tenant": given.get("tenant", "").strip(),
            "pod_sets": (PodSet(count=counts["pods"], gpus_per_pod=counts["gpus"]),),
            "accelerators": tuple(name.strip() for name in given.get("accelerators", "").split(",") if name.strip()),
            "duration": given.get("duration", "1h").strip(),
            "preemptible": given.get("preemptible") == "yes",
        },
        called={"pod_sets.count": "pods", "pod_sets.gpus_per_pod": "gpus"},
    )


def tiles(view: View) -> tuple[Tile, ...]:
    """Return the figures of the head: what is held, who waits and how long, and what ends soon."""
    present = [free for free in view.free if free.start <= view.at < free.end]
    planned, held = sum(free.planned_gpus for free in present), sum(free.held_gpus for free in present)
    line, holding = view.waiting, view.holding
    oldest = view.at - min((each.submitted_at for each in line), default=view.at)
    waiting = f"{number(sum(each.request.gpus for each in line))} GPUs; longest wait {duration(oldest)}"
    bad = sorted(view.nodes)
    noticed = sum(each.notice is not None for each in holding)
    return (
        Tile(name="Held now", value=number(held), unit=f"of {number(planned)} GPUs", note=_gangs(len(holding))),
        Tile(name="Free now", value=number(max(0, planned - held)), unit="GPUs", note="promised slots not counted"),
        Tile(name="In line", value=number(len(line)), unit="", note=waiting if line else "nobody waits"),
        _next_start(view),
        Tile(
            name="Nodes not ready",
            value=str(len(bad)),
            unit="",
            note=", ".join(bad[:3]) if bad else f"{_gangs(noticed)} with a notice to leave",
        ),
    )


def _gangs(count: int) -> str:
    return "1 gang" if count == 1 else f"{number(count)} gangs"


def _next_start(view: View) -> Tile:
    """Return the figure of who starts next."""
    first = next((each for each in view.waiting if each.eta is not None), None)
    if first is None or first.eta is None:
        return Tile(name="Next start", value=NOTHING, unit="", note="no start is expected")
    value = duration(first.eta - view.at) if first.eta > view.at else "now"
    return Tile(name="Next start", value=value, unit="", note=f"{first.request.tenant}, {first.request.gpus} GPUs")


def quota_rows(view: View, policy: Policy, pools: Mapping[str, Pool]) -> list[QuotaRow]:
    """Return a row for each tenant and accelerator: those that hold, wait, or have a quota."""
    held, limits = holdings(view.reservations, pools.values()), Quotas(policy)
    waits: dict[tuple[str, str], int] = {}
    for each in view.waiting:
        place = (each.request.tenant, each.request.accelerators[0])
        waits[place] = waits.get(place, 0) + each.request.gpus
    named = {(tenant, name) for tenant, rules in policy.tenants.items() for name in rules.quotas}
    keys = {(tenant, name) for tenant, gpus in held.items() for name in gpus} | set(waits) | named
    return [_quota_row(*key, held, waits, policy, limits) for key in sorted(keys)]


def _quota_row(
    tenant: str,
    accelerator: str,
    held: Mapping[str, Mapping[str, float]],
    waits: Mapping[tuple[str, str], int],
    policy: Policy,
    limits: Quotas,
) -> QuotaRow:
    quota = limits.quota(tenant, accelerator)
    most = limits.most(tenant, accelerator)
    return QuotaRow(
        tenant=tenant,
        cohort=policy.tenant(tenant).cohort,
        accelerator=accelerator,
        used=held.get(tenant, {}).get(accelerator, 0.0),
        nominal=None if quota is None else quota.nominal,
        limit=None if most == float("inf") else most,
        waiting=waits.get((tenant, accelerator), 0),
    )


def _legend(view: View, role: drawing.Role) -> dict[str, Any]:
    """Return the tenants that have a colour of their own, and how many have none."""
    tenants = sorted({each.request.tenant for each in view.reservations})
    coloured = [(tenant, role(tenant)) for tenant in tenants if role(tenant) in SERIES_ROLES]
    return {"tenants": coloured, "more_tenants": len(tenants) - len(coloured)}


def _accelerators(view: View, pools: Mapping[str, Pool]) -> list[str]:
    asked = {name for each in view.reservations for name in each.request.accelerators}
    return sorted(asked | {pool.accelerator for pool in pools.values()})


def _as_json(row: Reservation, eyes: Eyes) -> dict[str, Any]:
    """Return a reservation as plain values, with what the visitor sees of it."""
    shown = {name: value for name, value in summaries.of_reservation(row).items() if name != "token"}
    shown["key"] = eyes.key(row)
    if shown["key"] != row.request.request_key:
        shown["attempt"] = ""  # it names the DAG
    for part in ("reason", "notice"):
        shown[part] = shown[part] and {name: _seen(value, eyes) for name, value in shown[part].items()}
    return shown


def _seen(value: Any, eyes: Eyes) -> Any:
    if isinstance(value, list):
        return [_seen(item, eyes) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return eyes.text(value) if isinstance(value, str) else value
