from .audit_log import (
    BY_TAG as BY_TAG,
    GATE as GATE,
    WHY_TAG as WHY_TAG,
    Action as Action,
    Change as Change,
    champion_line as champion_line,
    finish_pending as finish_pending,
    history as history,
    record_decision as record_decision,
    record_manual_changes as record_manual_changes,
)
from .model_versions import (
    Alias as Alias,
    active_run as active_run,
    alias as alias,
    champion as champion,
    load as load,
    log_model as log_model,
    register as register,
    versions as versions,
)
from .runs import (
    ONCE as ONCE,
    checkpoints as checkpoints,
    code_sha256 as code_sha256,
    data_set as data_set,
    finish_training as finish_training,
    log_training as log_training,
    trained_once as trained_once,
    training_key as training_key,
    training_run as training_run,
)
