"""Run a command while it holds the gang of its run: `python3 -m gangplan_kfp.held --gang TEXT -- COMMAND...`."""

from __future__ import annotations

import sys

from gangplan_kfp.support import run_on_slots

if __name__ == "__main__":
    sys.exit(run_on_slots(sys.argv[1:]))
