from .alternatives import Alternative as Alternative, compare as compare
from .whatif import Answer as Answer, Solved as Solved, WhatIf as WhatIf, side_by_side as side_by_side
