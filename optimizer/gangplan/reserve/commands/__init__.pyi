from .dispatch import run_batch as run_batch
from .gang import Answer as Answer, Command as Command, Lookup as Lookup, found as found, submit as submit
