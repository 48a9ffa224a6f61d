from .settings import (
    FixedNodes as FixedNodes,
    KarpenterNodes as KarpenterNodes,
    KueueQuota as KueueQuota,
    NodeSettings as NodeSettings,
    ScaledNodes as ScaledNodes,
)
from .target import ClusterTarget as ClusterTarget, open_cluster as open_cluster
