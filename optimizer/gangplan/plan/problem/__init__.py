"""What a plan is asked: periods, scenarios, supply, quotas, prices and the policy."""
