from .devices import (
    SeenClaim as SeenClaim,
    SeenSlice as SeenSlice,
    seen_claim as seen_claim,
    seen_slice as seen_slice,
)
from .karpenter import (
    HELD_LIMIT as HELD_LIMIT,
    KARPENTER as KARPENTER,
    SeenNodeClaim as SeenNodeClaim,
    SeenNodePool as SeenNodePool,
    seen_nodeclaim as seen_nodeclaim,
    seen_nodepool as seen_nodepool,
)
from .nodes import (
    BOUND as BOUND,
    DO_NOT_DISRUPT as DO_NOT_DISRUPT,
    HOSTNAME as HOSTNAME,
    NODEPOOL as NODEPOOL,
    Given as Given,
    SeenNode as SeenNode,
    SeenPod as SeenPod,
    SeenWorkload as SeenWorkload,
    holds_its_node as holds_its_node,
    moment_of as moment_of,
    seen_node as seen_node,
    seen_pod as seen_pod,
    seen_workload as seen_workload,
)
from .quotas import (
    COHORT as COHORT,
    QUEUE as QUEUE,
    Cell as Cell,
    SeenPlace as SeenPlace,
    seen_cohort as seen_cohort,
    seen_flavor as seen_flavor,
    seen_queue as seen_queue,
)
