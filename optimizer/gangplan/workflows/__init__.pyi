from .answers import (
    Open as Open,
    model_answer as model_answer,
    model_asked as model_asked,
    plan_answer as plan_answer,
    plan_asked as plan_asked,
)
from .doctor import (
    check_targets as check_targets,
    examine_all as examine_all,
    examine_some as examine_some,
    wrong as wrong,
)
from .execution import (
    TO as TO,
    Applied as Applied,
    Controller as Controller,
    ControllerOptions as ControllerOptions,
    Execution as Execution,
    last_pass as last_pass,
    leader as leader,
    ledger_grants as ledger_grants,
    open_execution as open_execution,
)
from .first_day import Need as Need, has_hours as has_hours, not_yet as not_yet
from .models import (
    drift as drift,
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
from .power import bring_caps as bring_caps
from .present import usage_now as usage_now
from .purchases import look_ahead as look_ahead
from .questions import (
    Answer as Answer,
    answered as answered,
    decide_model as decide_model,
    decide_plan as decide_plan,
    open_plans as open_plans,
    plan_answered as plan_answered,
    plan_question as plan_question,
    question as question,
)
from .setup import ensure_fleet as ensure_fleet, initialise as initialise
