"""Which tests one worker runs, because they share servers of their own: what may be killed, the real nodes, Karpenter.

The mark `xdist_group` would say so at the tests. xdist 3.8 writes it where pytest 9.2 no longer reads it.
"""

from __future__ import annotations

from xdist.scheduler import LoadGroupScheduling

GROUPS = {
    "test_crashes.py": "own",
    "test_hazards.py::test_2_": "own",
    "cluster/real/": "real-nodes",
    "karpenter": "karpenter",
}


class Grouped(LoadGroupScheduling):
    """Hands each group to one worker, and all other tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group for part, group in GROUPS.items() if part in nodeid), nodeid)
