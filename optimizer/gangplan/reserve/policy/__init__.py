"""Who may have what: tenants, cohorts, quotas, priority classes, from the policy file."""
