from .access import manifests as manifests, rights as rights
from .api import (
    NAMES_ONLY as NAMES_ONLY,
    Api as Api,
    ConflictError as ConflictError,
    Object as Object,
    RejectedError as RejectedError,
    connect as connect,
    whole as whole,
)
from .inventory import (
    fleet_of as fleet_of,
    read_nodes as read_nodes,
    read_pods as read_pods,
    usage_of as usage_of,
)
from .mirror import Mirror as Mirror
from .vendors import GPU_RESOURCES as GPU_RESOURCES, short_name as short_name
from .workloads import (
    END as END,
    KUEUE as KUEUE,
    LEASE as LEASE,
    RESERVATION as RESERVATION,
    Claim as Claim,
    Gang as Gang,
    Mark as Mark,
    claim_from as claim_from,
    gpus_of as gpus_of,
    read_gangs as read_gangs,
)
