from .attempts import (
    ABANDONED_AFTER as ABANDONED_AFTER,
    claim as claim,
    end as end,
    give_back as give_back,
    give_back_owned as give_back_owned,
    lives as lives,
    patience as patience,
    request_from as request_from,
    submit as submit,
)
from .lease import Held as Held, hold as hold
from .words import (
    eta_text as eta_text,
    places_text as places_text,
    reason_texts as reason_texts,
    time_text as time_text,
    wait_text as wait_text,
)
