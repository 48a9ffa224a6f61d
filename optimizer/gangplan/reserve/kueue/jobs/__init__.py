"""Jobs and pod groups that run on the slots of a reservation."""
