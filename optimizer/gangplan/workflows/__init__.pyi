from .first_day import Need as Need, has_hours as has_hours, not_yet as not_yet
from .models import (
    answered as answered,
    drift as drift,
    question as question,
    questions as questions,
    watch as watch,
    write_page as write_page,
)
from .plans import (
    Planning as Planning,
    approve as approve,
    ask as ask,
    compare as compare,
    needs_approval as needs_approval,
    reject as reject,
)
from .present import usage_now as usage_now
from .purchases import look_ahead as look_ahead
from .setup import ensure_fleet as ensure_fleet, initialise as initialise
