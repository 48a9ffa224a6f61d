from .attempts import (
    ABANDONED_AFTER as ABANDONED_AFTER,
    ask_again as ask_again,
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
from .pods import (
    HOST as HOST,
    RESERVATION as RESERVATION,
    VARIABLES as VARIABLES,
    PodPlace as PodPlace,
    environment_of as environment_of,
    joined_affinity as joined_affinity,
    pod_place as pod_place,
    rendezvous_of as rendezvous_of,
)
from .running import MUST_LEAVE as MUST_LEAVE, Process as Process, prepare as prepare, run_held as run_held
from .words import (
    attempt_text as attempt_text,
    eta_text as eta_text,
    places_text as places_text,
    reason_texts as reason_texts,
    state_text as state_text,
    time_text as time_text,
    wait_text as wait_text,
    waits_for_text as waits_for_text,
)
