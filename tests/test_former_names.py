"""Modules that were renamed can still be imported by their former names."""

from __future__ import annotations

from gangplan.reserve.policy import policy_from_yaml
from gangplan.reserve.policy_file import policy_from_yaml as formerly_policy_from_yaml
from gangplan.telemetry import announce
from gangplan.telemetry.people import tell


def test_former_names_are_the_same_functions() -> None:
    """A script of an earlier build runs on."""
    assert tell is announce
    assert formerly_policy_from_yaml is policy_from_yaml
