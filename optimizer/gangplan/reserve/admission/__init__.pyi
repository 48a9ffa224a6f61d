from .book import Book as Book, Document as Document, check_calendar as check_calendar, most_nodes as most_nodes
from .entry import Entry as Entry, Leave as Leave, Plan as Plan
from .expected import (
    EtaErrors as EtaErrors,
    estimate as estimate,
    eta_errors as eta_errors,
    learned_ratio as learned_ratio,
    waited as waited,
)
from .reasons import explain as explain
from .scheduler import admit as admit, expire as expire
from .stranding import check_kept as check_kept
