from .holding import (
    ClaimedGang as ClaimedGang,
    Held as Held,
    give_back_claims as give_back_claims,
    held_claims as held_claims,
    hold_claims as hold_claims,
)
