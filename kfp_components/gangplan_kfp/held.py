"""Stands in for the holder."""

import os
import subprocess
import sys

where = sys.argv.index("--")
raise SystemExit(subprocess.run(sys.argv[where + 1 :], env={**os.environ, "GANGPLAN_HELD": sys.argv[2]}).returncode)
