from .admission import EtaErrors as EtaErrors, eta_errors as eta_errors, waited as waited
from .audit import AuditEvent as AuditEvent
from .contract import Ledger as Ledger, LedgerOperations as LedgerOperations, OperableLedger as OperableLedger
from .kueue import (
    BAD as BAD,
    GOOD as GOOD,
    NOTE as NOTE,
    Finding as Finding,
    KueueLedger as KueueLedger,
    asks_alike as asks_alike,
    examine as examine,
    hand_out as hand_out,
    may_adopt as may_adopt,
    open_kueue as open_kueue,
    parse_url as parse_url,
    reserve_for as reserve_for,
    resource_of as resource_of,
    run_beside as run_beside,
    start as start,
)
from .ledgers import open_ledger as open_ledger
from .opening import open_store as open_store
from .policy import (
    ALL as ALL,
    FieldChange as FieldChange,
    Holdings as Holdings,
    Policy as Policy,
    Preemption as Preemption,
    Quota as Quota,
    Quotas as Quotas,
    TenantPolicy as TenantPolicy,
    holdings as holdings,
    policy_body as policy_body,
    policy_changes as policy_changes,
    policy_doubts as policy_doubts,
    policy_effects as policy_effects,
    policy_yaml as policy_yaml,
    read_policy as read_policy,
    span_text as span_text,
)
from .stores import SqlStore as SqlStore, Status as Status
