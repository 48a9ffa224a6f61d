from .connections import IdleConnections as IdleConnections, wait_for_a_free_one as wait_for_a_free_one
from .database import Database as Database
from .leadership import Monotonic as Monotonic, Status as Status
from .store import SqlStore as SqlStore
