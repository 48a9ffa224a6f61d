"""Plans that are carried out on a real cluster."""
