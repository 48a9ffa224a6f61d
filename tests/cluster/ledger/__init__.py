"""Claims of the ledger, kept on a real Kueue: its contract, its races, crashes and hazards."""
