from .bundle import (
    Bundle as Bundle,
    bundle_bytes as bundle_bytes,
    read_bundle as read_bundle,
    read_model as read_model,
    write_model as write_model,
)
from .demand import DemandModel as DemandModel, Step as Step, fit as fit
from .features import History as History, build as build
from .lifts import Lift as Lift, measure_lifts as measure_lifts, with_known_events as with_known_events
from .naive import (
    last_value_quantiles as last_value_quantiles,
    seasonal_point as seasonal_point,
    seasonal_quantiles as seasonal_quantiles,
)
from .trees import LEAST_ROWS as LEAST_ROWS, ROUNDS as ROUNDS, TREES as TREES, Trees as Trees, grower as grower
