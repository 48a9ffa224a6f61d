"""From challenger to champion: shadow, review, decision."""
