from .database import database_to_read as database_to_read
from .faults import naming_faults as naming_faults
from .opening import open_store as open_store, require_answer as require_answer
from .store import (
    APPLY as APPLY,
    FEEDBACK as FEEDBACK,
    FORECAST as FORECAST,
    MODEL as MODEL,
    PLAN as PLAN,
    TELEMETRY as TELEMETRY,
    Store as Store,
    table_sha256 as table_sha256,
)
