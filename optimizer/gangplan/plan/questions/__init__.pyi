from .alternatives import Alternative as Alternative, compare as compare
from .whatif import WhatIf as WhatIf, WhatIfResult as WhatIfResult, ask as ask, side_by_side as side_by_side
