"""The command `gangplan`: one file for each group of commands."""

from gangplan.cli.app import main

__all__ = ["main"]
