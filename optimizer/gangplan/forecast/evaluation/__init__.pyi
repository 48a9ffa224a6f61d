from .backtest import (
    Window as Window,
    choose_window as choose_window,
    run_backtest as run_backtest,
    steps as steps,
    to_table as to_table,
)
from .compare import TIERS as TIERS, Gap as Gap, gap as gap, gaps as gaps, side_by_side as side_by_side
from .gate import (
    CHAMPION_TOLERANCE as CHAMPION_TOLERANCE,
    Evidence as Evidence,
    Verdict as Verdict,
    evaluate as evaluate,
    judge as judge,
)
from .metrics import Quality as Quality, pinball as pinball, quality as quality
from .plots import PICTURES as PICTURES, draw as draw
from .trial import (
    Trial as Trial,
    by_day as by_day,
    figures as figures,
    leak as leak,
    of_champion as of_champion,
    run_trial as run_trial,
    seconds as seconds,
    seen_hours as seen_hours,
)
from .words import (
    beside as beside,
    change as change,
    gap_headline as gap_headline,
    places as places,
    sure as sure,
)
