"""Tests on a real cluster, and the servers that they start where there is none."""
