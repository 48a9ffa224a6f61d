from .adopt import (
    asks_alike as asks_alike,
    hand_out as hand_out,
    may_adopt as may_adopt,
    reserve_for as reserve_for,
    start as start,
)
from .job_beside import run_beside as run_beside
