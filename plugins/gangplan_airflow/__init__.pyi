from .gangs import (
    GangSensor as GangSensor,
    RenewGangOperator as RenewGangOperator,
    Slots as Slots,
    gang as gang,
    hold as hold,
    task as task,
)
from .hook import GangplanHook as GangplanHook
from .operators import ReleaseGangOperator as ReleaseGangOperator, ReserveGangOperator as ReserveGangOperator
from .owners import sweep as sweep
from .review import ReviewOperator as ReviewOperator, page_of as page_of

def get_provider_info() -> dict[str, object]: ...
