"""Who holds what when: the slots of each node over time, and where a gang fits."""
