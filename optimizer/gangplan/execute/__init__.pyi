from .fleet_file import apply_to_file as apply_to_file, diff as diff
from .kubernetes import (
    ClusterTarget as ClusterTarget,
    FixedNodes as FixedNodes,
    KarpenterNodes as KarpenterNodes,
    KueueQuota as KueueQuota,
    ScaledNodes as ScaledNodes,
    layout_of as layout_of,
    open_cluster as open_cluster,
)
from .target import Target as Target
