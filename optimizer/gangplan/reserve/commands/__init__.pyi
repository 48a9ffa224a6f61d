from .batch import command_from as command_from, command_text as command_text, run_batch as run_batch
from .command import (
    BookQuery as BookQuery,
    Command as Command,
    Lookup as Lookup,
    Result as Result,
    T as T,
    require_entry as require_entry,
)
from .gang import Cancel as Cancel, Release as Release, Renew as Renew, Resize as Resize, Submit as Submit
from .nodes import MarkNode as MarkNode
from .operating import Publish as Publish, SetPolicy as SetPolicy, Tick as Tick
