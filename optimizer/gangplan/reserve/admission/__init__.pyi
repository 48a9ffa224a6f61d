from .book import Book as Book, Document as Document
from .entry import Entry as Entry, Leave as Leave, Promise as Promise, last_start as last_start
from .expected import (
    EtaErrors as EtaErrors,
    estimate as estimate,
    eta_errors as eta_errors,
    learned_ratio as learned_ratio,
    waited as waited,
)
from .leaving import tell_leaving as tell_leaving
from .reasons import explain as explain, told as told
from .scheduler import admit as admit, expire as expire, look_ahead as look_ahead
