from .ec2 import open_ec2 as open_ec2
from .group_target import GroupTarget as GroupTarget, Joined as Joined, machine_of as machine_of
from .settings import Ec2Group as Ec2Group, GceGroup as GceGroup
