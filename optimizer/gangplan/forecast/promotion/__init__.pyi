from .decide import after_training as after_training
from .due import open_questions as open_questions, settle as settle
from .page import headline as headline, keep as keep, write_page as write_page
from .review import (
    ModelVersion as ModelVersion,
    approve as approve,
    challenger as challenger,
    list_versions as list_versions,
    reject as reject,
    rollback as rollback,
    show_version as show_version,
)
from .shadow import ShadowStanding as ShadowStanding, observe as observe, standing as standing
