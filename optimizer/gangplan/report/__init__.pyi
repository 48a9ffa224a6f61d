from .capacity import draw_plan as draw_plan, layers as layers
from .demand import draw_demand as draw_demand
from .page import build as build
from .plan_page import write_plan as write_plan
from .purchases import write as write
from .tables import limits as limits, pools as pools, shortages as shortages
