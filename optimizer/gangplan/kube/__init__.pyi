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
from .vendors import GPU_RESOURCES as GPU_RESOURCES, is_accelerator as is_accelerator, short_name as short_name
from .workloads import Gang as Gang, read_gangs as read_gangs
