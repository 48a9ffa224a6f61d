"""An extension of griffe, which reads our docstrings for the site: a face hands out the names of its stub."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import griffe


class Faces(griffe.Extension):
    """Let the stub beside a package's `__init__` say what is public, as our loader does when the package is used."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Mark the names of each package in a loaded one."""
        for module in (pkg, *(inner for inner in pkg.modules.values() if not inner.is_alias)):
            stub = Path(str(module.filepath)).with_name("__init__.pyi")
            if module.is_init_module and stub.exists():
                module.exports = list(handed_out(stub.read_text()))
            if module is not pkg:
                self.on_package(pkg=module)


def handed_out(stub: str) -> list[str]:
    """Return the names that a stub imports as themselves, in its order."""
    imports = (node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom))
    return [name.asname for node in imports for name in node.names if name.asname]
