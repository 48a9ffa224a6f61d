from .doctor import BAD as BAD, GOOD as GOOD, NOTE as NOTE, Finding as Finding, examine as examine
from .jobs import (
    asks_alike as asks_alike,
    hand_out as hand_out,
    may_adopt as may_adopt,
    reserve_for as reserve_for,
    run_beside as run_beside,
    start as start,
)
from .ledger import KueueLedger as KueueLedger
from .objects import resource_of as resource_of
from .opening import open_kueue as open_kueue, parse_url as parse_url
