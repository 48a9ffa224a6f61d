from .bundle import (
    Bundle as Bundle,
    bundle_sha256 as bundle_sha256,
    bundle_size as bundle_size,
    read_bundle as read_bundle,
    read_model as read_model,
    write_bundle as write_bundle,
    write_model as write_model,
)
from .demand import ROUNDS as ROUNDS, DemandModel as DemandModel, Step as Step, fit as fit, levels as levels
from .features import DAY as DAY, WEEK as WEEK, History as History, build as build, feature_names as feature_names
from .lifts import Lift as Lift, foreseen as foreseen, measure_lifts as measure_lifts
from .naive import (
    last_value_quantiles as last_value_quantiles,
    seasonal_point as seasonal_point,
    seasonal_quantiles as seasonal_quantiles,
)
from .trees import TREES as TREES, Trees as Trees
