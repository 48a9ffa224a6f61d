"""Where the rows of a ledger are kept: in memory or in a SQL database."""
