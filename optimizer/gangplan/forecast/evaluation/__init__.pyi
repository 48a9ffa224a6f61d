from .backtest import (
    LEAST_HOURS as LEAST_HOURS,
    Window as Window,
    choose_window as choose_window,
    rows_of as rows_of,
    run_backtest as run_backtest,
    steps_ahead as steps_ahead,
    to_table as to_table,
)
from .compare import (
    TIERS as TIERS,
    Gap as Gap,
    Quality as Quality,
    gap as gap,
    gaps as gaps,
    places as places,
    quality as quality,
    side_by_side as side_by_side,
)
from .gate import (
    CHAMPION_TOLERANCE as CHAMPION_TOLERANCE,
    GateResult as GateResult,
    evaluate as evaluate,
    judge as judge,
)
from .plots import PICTURES as PICTURES, draw_pictures as draw_pictures
from .trial import (
    Trial as Trial,
    backtest_champion as backtest_champion,
    daily_wql as daily_wql,
    difference as difference,
    metrics_of as metrics_of,
    run_trial as run_trial,
)
