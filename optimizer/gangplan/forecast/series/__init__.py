"""What the models learn from: demand by hour, cleaned, with its level shifts."""
