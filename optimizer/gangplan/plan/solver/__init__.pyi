from .decomposition import TOWARDS_MASTER as TOWARDS_MASTER, Decomposition as Decomposition, Point as Point
from .highs import (
    Answer as Answer,
    Array as Array,
    Engine as Engine,
    Ints as Ints,
    StandardForm as StandardForm,
    compile_model as compile_model,
)
from .paths import Cut as Cut, Paths as Paths, Priced as Priced, risk as risk
from .rounding import afford as afford, mend as mend, round_at as round_at
from .search import Found as Found, Search as Search
from .warm_start import from_bytes as from_bytes, near_cuts as near_cuts, to_bytes as to_bytes
