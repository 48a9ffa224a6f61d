"""Plan in, changes out: what must start and stop for the fleet to be as planned; shown first, applied second.

The fleet file is the one target here; clusters and clouds get modules of their own beside `fleet_file`.
"""

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.execute.changes import diff
    from gangplan.execute.fleet_file import apply_to_file

__all__ = ["apply_to_file", "diff"]
