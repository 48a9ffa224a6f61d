from .hook import GangplanHook as GangplanHook
from .operators import ReleaseGangOperator as ReleaseGangOperator, ReserveGangOperator as ReserveGangOperator
from .review import ReviewOperator as ReviewOperator, page_of as page_of

def get_provider_info() -> dict[str, object]: ...
