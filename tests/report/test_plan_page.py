"""The page of one plan: its drawing, its reasons and tables, in one file that needs no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gangplan.report import write_plan


def test_the_page_has_the_plan_and_fetches_nothing(world: Any, tmp_path: Path) -> None:
    """Text from outside is escaped; the same plan makes the same page."""
    plan = replace(world.plan, explanation=("It is <b>dear</b>.", "h100 is short."))
    text = write_plan(tmp_path / "plan.html", plan, world.forecast).read_text()
    assert text == write_plan(tmp_path / "again.html", plan, world.forecast).read_text()
    assert f"<h1>Plan {plan.plan_id}</h1>" in text
    assert "It is &lt;b&gt;dear&lt;/b&gt;." in text
    assert "<li>h100 is short.</li>" in text
    assert text.count("<svg") == 1
    assert not any(mark in text for mark in ("<script", "src=", "@import", 'href="http', "url(http"))
