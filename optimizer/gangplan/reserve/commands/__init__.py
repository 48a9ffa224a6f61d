"""What a ledger can be asked: the commands of those who reserve and of those who operate it."""
