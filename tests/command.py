"""The command as a test calls it: in this process, as a shell would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gangplan import cli
from gangplan.cli import terminal


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a call of the command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


Call = Callable[..., Said]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return what calls the command with words, and says what it came to."""

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["gangplan", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        return Said(code=int(left.value.code or 0), out=captured.out, err=captured.err)

    return run


def widen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Let the command's terminal be so wide; by `width`, or by COLUMNS when it is made, it would stay so for others."""
    monkeypatch.setattr(terminal.console, "_width", columns)
