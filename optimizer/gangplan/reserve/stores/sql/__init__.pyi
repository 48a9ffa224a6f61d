from .database import Database as Database
from .leading import Monotonic as Monotonic, Status as Status
from .store import SqlStore as SqlStore
