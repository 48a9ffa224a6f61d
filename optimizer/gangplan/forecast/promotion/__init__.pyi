from .page import headline as headline, log_page as log_page, write_page as write_page
from .review import (
    APART as APART,
    DECIDED as DECIDED,
    TWIN as TWIN,
    ModelVersion as ModelVersion,
    approve as approve,
    challenger as challenger,
    decide_after_training as decide_after_training,
    decide_challenger as decide_challenger,
    list_versions as list_versions,
    open_questions as open_questions,
    reject as reject,
    rollback as rollback,
    show_version as show_version,
)
from .shadow import ShadowStanding as ShadowStanding, standing as standing
