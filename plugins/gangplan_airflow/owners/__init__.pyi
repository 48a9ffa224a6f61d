from .endings import look_again as look_again, run_ended as run_ended, task_ended as task_ended
from .leftovers import left_by_ended as left_by_ended, sweep as sweep
from .marks import (
    ENDED_ITSELF as ENDED_ITSELF,
    connection_of as connection_of,
    is_between as is_between,
    is_ours as is_ours,
)
from .one_process import give_back_all as give_back_all, leave_nothing as leave_nothing
from .processes import wait_until_gone as wait_until_gone
from .retries import keep_for_retry as keep_for_retry
from .slotless import refuse_without_slots as refuse_without_slots
from .states import (
    ENDED as ENDED,
    LOST as LOST,
    can_end_here as can_end_here,
    push as push,
    state_of as state_of,
    states_of_run as states_of_run,
)
from .taking import take as take
