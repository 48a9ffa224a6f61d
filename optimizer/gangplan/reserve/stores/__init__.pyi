from .memory import MemoryStore as MemoryStore
from .sql import (
    Database as Database,
    IdleConnections as IdleConnections,
    Monotonic as Monotonic,
    SqlStore as SqlStore,
    Status as Status,
    wait_for_a_free_one as wait_for_a_free_one,
)
from .wakeups import LocalWakeup as LocalWakeup, PostgresWakeup as PostgresWakeup, SqliteWakeup as SqliteWakeup
