from .decomposition import (
    TOWARDS_MASTER as TOWARDS_MASTER,
    Candidate as Candidate,
    Decomposition as Decomposition,
)
from .extensive import FleetProgram as FleetProgram
from .highs import Engine as Engine, SolverResult as SolverResult, Work as Work
from .recourse import (
    Cut as Cut,
    RecoursePrograms as RecoursePrograms,
    RecourseResult as RecourseResult,
    cuts_from_bytes as cuts_from_bytes,
    cuts_to_bytes as cuts_to_bytes,
    risk as risk,
)
from .search import (
    Search as Search,
    SearchResult as SearchResult,
    fit_budget as fit_budget,
    repair as repair,
    round_at as round_at,
)
