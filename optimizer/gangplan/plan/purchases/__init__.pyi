from .demand import (
    LongDemand as LongDemand,
    days_of as days_of,
    monthly_paths as monthly_paths,
    typical_weeks as typical_weeks,
)
from .demand_table import from_table as from_table, read_demand_table as read_demand_table
from .offers import with_offers as with_offers
from .problem import BEYOND as BEYOND, pose_horizon as pose_horizon
from .solve import buy_ahead as buy_ahead
