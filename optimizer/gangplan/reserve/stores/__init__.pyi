from .memory import MemoryStore as MemoryStore
from .sql import Database as Database, Monotonic as Monotonic, SqlStore as SqlStore, Status as Status
from .wakes import PlainWake as PlainWake, PostgresWake as PostgresWake, SqliteWake as SqliteWake
