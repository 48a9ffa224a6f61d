from .memory import MemoryStore as MemoryStore
from .sql import Database as Database, Monotonic as Monotonic, SqlStore as SqlStore, Status as Status
from .wakeups import LocalWakeup as LocalWakeup, PostgresWakeup as PostgresWakeup, SqliteWakeup as SqliteWakeup
