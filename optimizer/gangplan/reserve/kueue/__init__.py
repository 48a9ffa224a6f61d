"""The ledger on Kueue: a reservation is a Workload without an owner, which Kueue admits and a Job may adopt."""
