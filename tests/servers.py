"""What tests share that start a server of their own."""

from __future__ import annotations

import urllib.request


def answers(url: str) -> bool:
    """Tell whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
            return True
    except OSError:
        return False
