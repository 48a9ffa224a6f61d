from .database import Database as Database
from .leadership import Monotonic as Monotonic, Status as Status
from .store import SqlStore as SqlStore
