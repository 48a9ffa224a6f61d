from .adopt import hand_out as hand_out, reserve_for as reserve_for, start as start
from .job_beside import run_beside as run_beside
