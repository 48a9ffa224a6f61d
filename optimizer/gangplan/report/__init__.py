"""The report: one self-contained HTML page of the demand, the plan, the reservations and what was learned."""

from __future__ import annotations

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.report.page import build

__all__ = ["build"]
