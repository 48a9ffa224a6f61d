from .audit_log import (
    APPROVED as APPROVED,
    CROWNING as CROWNING,
    FORCED as FORCED,
    PROMOTED as PROMOTED,
    REFUSED as REFUSED,
    REJECTED as REJECTED,
    ROLLED_BACK as ROLLED_BACK,
    WAITING as WAITING,
    Change as Change,
    crown as crown,
    finish as finish,
    history as history,
    record as record,
    reign as reign,
    sync as sync,
)
from .model_versions import (
    CHALLENGER as CHALLENGER,
    CHAMPION as CHAMPION,
    alias as alias,
    champion as champion,
    inside as inside,
    load as load,
    log_model as log_model,
    register as register,
    versions as versions,
)
from .run_record import data_set as data_set, log as log
from .runs import (
    close as close,
    code_sha256 as code_sha256,
    keeper as keeper,
    key_of as key_of,
    training_run as training_run,
)
