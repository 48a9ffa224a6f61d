"""Stages joined once for a DAG, a component or a command."""
