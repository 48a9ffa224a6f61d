"""Whose slots are whose: what Airflow says of tasks and runs, and what goes back when they end.

A grant belongs to one try of a task (`gangplan_airflow.attempts`). What an earlier try, a late teardown or a lost
process still does changes nothing of a later one.
"""

from gangplan.extras import lazy_face

__getattr__, __dir__ = lazy_face(__name__, __file__)
