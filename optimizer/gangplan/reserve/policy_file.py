"""The former name of `policy.file`, for scripts that still import it."""

from gangplan.reserve.policy import policy_from_yaml, policy_yaml, read_policy

__all__ = ["policy_from_yaml", "policy_yaml", "read_policy"]
