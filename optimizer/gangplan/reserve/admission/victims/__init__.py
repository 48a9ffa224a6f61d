"""Which running gangs to preempt for one beneficiary."""
