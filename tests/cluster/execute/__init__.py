"""Tests of plans that are carried out on a real cluster."""
