from .adoption import hand_out as hand_out, reserve_for as reserve_for, start as start
from .beside import run_beside as run_beside
