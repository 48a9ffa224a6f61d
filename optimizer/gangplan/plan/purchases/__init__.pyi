from .demand import (
    History as History,
    LongDemand as LongDemand,
    PurchaseHorizon as PurchaseHorizon,
    demand_from_growth as demand_from_growth,
    demand_from_table as demand_from_table,
)
from .solve import plan_purchases as plan_purchases
