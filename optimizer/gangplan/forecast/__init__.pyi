from .evaluation import LEAST_HOURS as LEAST_HOURS
from .models import Lift as Lift, measure_lifts as measure_lifts
from .outlook import (
    CapacityDate as CapacityDate,
    MinuteRequest as MinuteRequest,
    Trend as Trend,
    draw_growth as draw_growth,
    forecast_growth as forecast_growth,
    forecast_minutes as forecast_minutes,
    sum_up as sum_up,
    when_full as when_full,
)
from .promotion import (
    ModelVersion as ModelVersion,
    ShadowStanding as ShadowStanding,
    approve as approve,
    challenger as challenger,
    decide_challenger as decide_challenger,
    headline as headline,
    list_versions as list_versions,
    open_questions as open_questions,
    reject as reject,
    rollback as rollback,
    show_version as show_version,
    standing as standing,
    write_page as write_page,
)
from .registry import (
    BY_TAG as BY_TAG,
    WHY_TAG as WHY_TAG,
    Change as Change,
    history as history,
    record_manual_changes as record_manual_changes,
)
from .series import Panel as Panel, from_usage as from_usage
from .training import (
    backtest_forecast as backtest_forecast,
    predict as predict,
    read_training as read_training,
    retrain as retrain,
)
from .watch import (
    Alarm as Alarm,
    DriftVerdict as DriftVerdict,
    Health as Health,
    correct_next_hours as correct_next_hours,
    watch_drift as watch_drift,
)
