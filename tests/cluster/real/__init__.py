"""What only real nodes can show: pods that run, and what becomes of them and of a node."""
