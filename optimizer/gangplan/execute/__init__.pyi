from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .target import Target as Target
