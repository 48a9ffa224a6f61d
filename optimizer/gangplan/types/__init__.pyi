from .checks import (
    NAME as NAME,
    NO_NAME as NO_NAME,
    require_at_least as require_at_least,
    require_items as require_items,
    require_name as require_name,
    require_positive as require_positive,
    require_slot as require_slot,
    require_text as require_text,
    require_type as require_type,
    require_whole as require_whole,
)
from .containers import ContainerUse as ContainerUse
from .demand import (
    ANY as ANY,
    CLASS_RULES as CLASS_RULES,
    QUANTILES as QUANTILES,
    SERIES as SERIES,
    Beliefs as Beliefs,
    ClassRule as ClassRule,
    Forecast as Forecast,
    Quarantine as Quarantine,
    Training as Training,
    Usage as Usage,
    WorkloadClass as WorkloadClass,
)
from .execution import (
    QUOTA_STEPS as QUOTA_STEPS,
    Grant as Grant,
    Observation as Observation,
    PoolNode as PoolNode,
    PoolNodes as PoolNodes,
    Quota as Quota,
    Step as Step,
    StepKind as StepKind,
)
from .fleet import LAB as LAB, WHOLE_GPU as WHOLE_GPU, Fleet as Fleet, Pool as Pool, PoolKind as PoolKind, Term as Term
from .gang import GangRequest as GangRequest, Level as Level, PodSet as PodSet, Topology as Topology
from .owners import ObjectOwner as ObjectOwner, PipelineOwner as PipelineOwner, cluster_owner as cluster_owner
from .plan import (
    CapacityCalendar as CapacityCalendar,
    CapacityInterval as CapacityInterval,
    Learning as Learning,
    Outcome as Outcome,
    Plan as Plan,
    PlanId as PlanId,
    Score as Score,
)
from .power import (
    LEAST_SAMPLES as LEAST_SAMPLES,
    GridCarbon as GridCarbon,
    Knob as Knob,
    PowerCurve as PowerCurve,
    PowerPoint as PowerPoint,
)
from .purchases import (
    Commitments as Commitments,
    PoolFull as PoolFull,
    Purchase as Purchase,
    PurchaseBenefit as PurchaseBenefit,
    PurchaseStrategy as PurchaseStrategy,
)
from .request_reader import request_fields as request_fields, request_from as request_from
from .reservation import (
    FreeCapacity as FreeCapacity,
    Limit as Limit,
    NodeState as NodeState,
    Notice as Notice,
    Outage as Outage,
    Placement as Placement,
    Reason as Reason,
    Reservation as Reservation,
    ReservationId as ReservationId,
    ReservationState as ReservationState,
    Token as Token,
    is_owned as is_owned,
    owner_of as owner_of,
    require_attempt as require_attempt,
)
