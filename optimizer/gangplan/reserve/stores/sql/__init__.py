"""The rows of a ledger in SQLite or PostgreSQL, with one leader that writes them."""
