from .names import (
    API as API,
    GROUP as GROUP,
    HOST as HOST,
    IS_GROUP as IS_GROUP,
    MAX_EXEC as MAX_EXEC,
    POD_GROUP as POD_GROUP,
    POD_GROUP_TOTAL as POD_GROUP_TOTAL,
    PREBUILT as PREBUILT,
    QUEUE_NAME as QUEUE_NAME,
    ROLE_HASH as ROLE_HASH,
    VERSION as VERSION,
    resource_of as resource_of,
    workloads as workloads,
)
from .nodes import nodes_away as nodes_away
from .queues import Flavor as Flavor, View as View, read_view as read_view
from .record import Records as Records
from .view import (
    CANCELLED as CANCELLED,
    EXPIRED as EXPIRED,
    PREEMPTED as PREEMPTED,
    RELEASED as RELEASED,
    decided as decided,
    due_at as due_at,
    end_of as end_of,
    ended_by_time as ended_by_time,
    lease_of as lease_of,
    opens_later as opens_later,
    over_by_kueue as over_by_kueue,
    picture as picture,
    preempted as preempted,
    spent_by as spent_by,
    stale as stale,
    state_of as state_of,
)
from .workload import (
    Place as Place,
    limit_seconds as limit_seconds,
    node_affinity as node_affinity,
    refuse as refuse,
    refuse_late as refuse_late,
    topology_request as topology_request,
    workload_of as workload_of,
)
