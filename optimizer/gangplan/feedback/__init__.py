"""Feedback: what really happened, held against the forecast and the plan, corrects the next forecast.

score       plan + forecast + outcome -> Score        pure
learn       Score -> Beliefs                          logged in MLflow, once for the same evidence
read_*      what was logged last
"""

from __future__ import annotations

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.feedback.journal import learn, read_beliefs, read_score
    from gangplan.feedback.scoring import score

__all__ = ["learn", "read_beliefs", "read_score", "score"]
