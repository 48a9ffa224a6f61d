"""Questions to a solved plan: read strictly, answered as a plan made anew would, and never written."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plan.builders import settings_of

from gangplan.errors import InputError
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.questions.whatif import WhatIf, WhatIfSolver, apply_amount, side_by_side
from gangplan.plan.solver.search import Search
from gangplan.progress import no_progress
from gangplan.types import Fleet, Forecast


@pytest.fixture(scope="module")
def solved(sample_forecast: Forecast, sample_fleet: Fleet) -> WhatIfSolver:
    """Two days of the sample, solved."""
    search = Search(
        build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=48, scenarios=4, mip_gap=0.01))
    )
    nodes = search.run(no_progress).nodes
    return WhatIfSolver(search.problem, nodes, search.decomposition.near_cuts())


QUESTIONS = {
    "a larger pool": WhatIf.from_texts(["h100-on-demand.max=+2"], []),
    "a dearer pool": WhatIf.from_texts(["a100-spot.price=+50%"], []),
    "no lead time": WhatIf.from_texts(["h100-on-demand.lead=0"], []),
    "a smaller pool": WhatIf.from_texts(["l4-on-demand.max=-40"], []),
    "one tenant more": WhatIf.from_texts([], ["tenant:vision=+30%"]),
    "all demand less": WhatIf.from_texts([], ["all=-20%"]),
    "a budget": WhatIf.from_texts([], [], budget="24000"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_is_what_a_new_plan_would_be(name: str, solved: WhatIfSolver) -> None:
    """Asked with time, the answer is within its gap of the plan made anew for the changed problem, and keeps limits."""
    answer = solved.ask(QUESTIONS[name], units=600)
    anew = Search(QUESTIONS[name].of(solved.problem)).run(no_progress)
    assert answer.gap <= 0.03
    assert anew.bound <= answer.objective * (1 + 1e-6)
    assert answer.objective * (1 - answer.gap) <= anew.objective * (1 + 1e-6)
    most = np.array([[pool.max_nodes] for pool in answer.problem.pools])
    assert ((answer.nodes >= 0) & (answer.nodes <= most)).all()


def test_questions_leave_the_plan_as_it_was(solved: WhatIfSolver) -> None:
    """A question asked after others has the answer that it had before them; nothing asked changes nothing."""
    question = QUESTIONS["one tenant more"]
    first = solved.ask(question, units=600)
    for other in QUESTIONS.values():
        solved.ask(other, units=0.01)
    again = solved.ask(question, units=600)
    assert again.objective == pytest.approx(first.objective, rel=0.01)
    table = side_by_side(solved.answer, again)
    assert table["cost"].sum() == pytest.approx(solved.answer.cost)
    assert table["cost_then"].sum() == pytest.approx(again.cost)


def test_an_answer_without_time_has_a_plan_and_a_proven_gap(solved: WhatIfSolver) -> None:
    """Even with no time at all there is a whole fleet, and the gap encloses the plan made anew."""
    question = QUESTIONS["one tenant more"]
    answer = solved.ask(question, units=0.0)
    anew = Search(question.of(solved.problem)).run(no_progress)
    assert answer.objective * (1 - answer.gap) <= anew.objective * (1 + 1e-6)
    assert answer.objective >= anew.bound * (1 - 1e-6)


def test_amounts_are_read_as_people_write_them() -> None:
    """An amount, a step, a share; what is none of them is refused with an example."""
    assert [apply_amount("x", text, 40.0) for text in ("20", "+5", "-5", "+10%", "-10%", "50%", "2.5")] == [
        20, 45, 35, 44, 36, 20, 2.5,
    ]  # fmt: skip
    for wrong in ("", "a lot", "+-3", "5 %", "nan"):
        with pytest.raises(InputError, match=r"give one as 20, \+5 or -10%"):
            apply_amount("x", wrong, 1.0)


@pytest.mark.parametrize(
    ("pools", "demand", "budget", "said"),
    [
        (["h100-on-demand=3"], [], "", r"NAME.FIELD=AMOUNT with a field of max, min, price, lead"),
        (["h100-on-demand.size=3"], [], "", r"'h100-on-demand.size=3'"),
        (["none.max=3"], [], "", r"'none'.*use one of"),
        (["h100-on-demand.max=-99"], [], "", r"max_nodes: -87"),
        ([], ["team:vision=+1%"], "", r"tenant\|class\|accelerator"),
        ([], ["tenant:nobody=+1%"], "", r"asked for by nobody"),
        ([], ["tenant:vision=lots"], "", r"'lots'"),
        ([], [], "+10%", r"is relative, and the plan has no such limit"),
        ([], [], "0", r"leaves nothing"),
        ([], [], "", r"asks nothing"),
    ],
)
def test_a_wrong_question_is_refused(
    pools: list[str], demand: list[str], budget: str, said: str, solved: WhatIfSolver
) -> None:
    """What cannot be asked is named with its value and the remedy."""
    with pytest.raises(InputError, match=said):
        solved.ask(WhatIf.from_texts(pools, demand, budget))
