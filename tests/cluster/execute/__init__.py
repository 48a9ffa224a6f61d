"""Plans carried out on real servers."""
