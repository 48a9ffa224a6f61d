from .applying import (
    TO as TO,
    Applied as Applied,
    Execution as Execution,
    ledger_grants as ledger_grants,
    open_execution as open_execution,
)
from .controlling import Controller as Controller, ControllerOptions as ControllerOptions
from .leading import last_pass as last_pass, leader as leader
