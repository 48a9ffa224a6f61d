from .copies import nothing_heard as nothing_heard
from .layout import layout_of as layout_of
from .settings import (
    FixedNodes as FixedNodes,
    KarpenterNodes as KarpenterNodes,
    KueueQuota as KueueQuota,
    NodeSettings as NodeSettings,
    ScaledNodes as ScaledNodes,
)
from .target import ClusterTarget as ClusterTarget, open_cluster as open_cluster
