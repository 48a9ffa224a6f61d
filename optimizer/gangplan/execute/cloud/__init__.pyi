from .ec2 import open_ec2 as open_ec2
from .gce import open_gce as open_gce
from .group_target import Joined as Joined, machine_of as machine_of
from .prices import (
    PriceChange as PriceChange,
    bought_pools as bought_pools,
    catalog_changes as catalog_changes,
    changed_prices as changed_prices,
    machines_of as machines_of,
    read_skypilot as read_skypilot,
    repriced as repriced,
)
from .settings import Ec2Group as Ec2Group, GceGroup as GceGroup
from .spot import spot_changes as spot_changes
