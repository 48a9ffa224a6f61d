from .file import (
    policy_body as policy_body,
    policy_from_yaml as policy_from_yaml,
    policy_yaml as policy_yaml,
    read_policy as read_policy,
    span_text as span_text,
)
from .quota import Quotas as Quotas
from .review import (
    FieldChange as FieldChange,
    Holdings as Holdings,
    holdings as holdings,
    policy_changes as policy_changes,
    policy_doubts as policy_doubts,
    policy_effects as policy_effects,
)
from .rules import ALL as ALL, Policy as Policy, Preemption as Preemption, Quota as Quota, TenantPolicy as TenantPolicy
