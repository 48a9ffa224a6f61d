from .accelerators import (
    METRIC_PATTERN as METRIC_PATTERN,
    NODE_LABELS as NODE_LABELS,
    accelerator_of as accelerator_of,
    instances_of as instances_of,
    is_accelerator as is_accelerator,
    metric_name as metric_name,
    names_of as names_of,
    profile_of as profile_of,
    resource_from as resource_from,
    share_of as share_of,
    short_name as short_name,
)
from .access import (
    executor_manifests as executor_manifests,
    executor_rights as executor_rights,
    job_rights as job_rights,
    manifests as manifests,
    may as may,
    rights as rights,
)
from .api import (
    EXECUTOR as EXECUTOR,
    NAMES_ONLY as NAMES_ONLY,
    Api as Api,
    Object as Object,
    connect as connect,
    listed as listed,
    part as part,
    whole as whole,
    writing as writing,
)
from .devices import devices_in as devices_in, devices_version as devices_version, held_devices as held_devices
from .gangs import Gang as Gang, Seen as Seen, read_gangs as read_gangs
from .inventory import (
    CORDONED_AT as CORDONED_AT,
    NODES as NODES,
    POOL_LABELS as POOL_LABELS,
    fleet_of as fleet_of,
    is_ready as is_ready,
    node_from as node_from,
    read_nodes as read_nodes,
    read_pods as read_pods,
    usage_of as usage_of,
)
from .mirror import Mirror as Mirror
from .pods import (
    PLACEHOLDER as PLACEHOLDER,
    PLACEHOLDER_CLASS as PLACEHOLDER_CLASS,
    PODS as PODS,
    accelerators_in as accelerators_in,
    amounts_in as amounts_in,
    is_placeholder as is_placeholder,
    requests_of as requests_of,
)
from .remarks import Malformed as Malformed
from .workloads import (
    ATTEMPT as ATTEMPT,
    END as END,
    KUEUE as KUEUE,
    LEASE as LEASE,
    RESERVATION as RESERVATION,
    Claim as Claim,
    Mark as Mark,
    claim_from as claim_from,
    gpus_of as gpus_of,
)
