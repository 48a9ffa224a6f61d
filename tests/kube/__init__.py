"""Tests of access to a cluster: what its objects mean."""
