"""A comparison in words that a reviewer understands: better where, worse where, by how much, is it luck."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gangplan.forecast.evaluation.compare import Gap

SURE, LIKELY = 0.02, 0.10
_SAME = 0.005  # a half per cent is called the same


def gap_headline(gap: Gap, rival: str) -> str:
    """The whole comparison in a few sentences."""
    loss = f"its loss is {gap.mine:.2f} % of demand, that of {rival} {gap.other:.2f} %"
    origins = f"it was the better one from {gap.won} of {gap.origins} starting days"
    return f"{_verdict(gap.change)} {rival}: {loss}; {origins}. {luck(gap)}"


def beside(gap: Gap) -> str:
    """The comparison with a rival that was just named."""
    return f"{gap.mine:.2f} % against {gap.other:.2f} %, {change(gap)}. {luck(gap)}"


def luck(gap: Gap) -> str:
    """Whether the gap may be luck."""
    if math.isnan(gap.luck):
        return "With a single starting day nobody can tell whether that is luck."
    if abs(gap.change) < _SAME:
        return "So small a gap says nothing."
    return f"Luck alone makes a gap as large in {often(gap.luck)}: {sure(gap)}."


def sure(gap: Gap) -> str:
    """How likely luck is, as a judgement."""
    if abs(gap.change) < _SAME:
        return "no gap"
    if math.isnan(gap.luck):
        return "cannot be told"
    if gap.luck <= SURE:
        return "hardly luck"
    return "probably not luck" if gap.luck <= LIKELY else "may be luck"


def often(chance: float) -> str:
    """A probability as people count: 1 case in 64."""
    if chance >= 0.5:
        return f"{chance:.0%} of all cases".replace("%", " %")
    return f"1 case in {round(1 / max(chance, 1e-4)):,}"


def change(gap: Gap) -> str:
    """How much less or more is lost."""
    if not math.isfinite(gap.change):
        return "worse: the other one loses nothing"
    if abs(gap.change) < _SAME:
        return "the same"
    return f"{abs(gap.change):.1%} {'less' if gap.change < 0 else 'more'}".replace("%", " %")


def places(gaps: Sequence[Gap], *, worse: bool) -> str:
    """Name the rows that are better, or worse, by more than luck likely makes; the surest first."""
    sign = 1 if worse else -1
    found = [gap for gap in gaps if gap.luck <= LIKELY and sign * gap.change >= _SAME]
    named = [f"{gap.name} ({change(gap)}, {sure(gap)})" for gap in sorted(found, key=lambda gap: gap.luck)]
    return "; ".join(named[:6]) or "nowhere by more than luck would make"


def _verdict(moved: float) -> str:
    """Better, worse or the same."""
    if abs(moved) < _SAME:
        return "As good as"
    return "Better than" if moved < 0 else "Worse than"
