"""An import-linter contract: whoever is outside a package imports the package, never a module inside it."""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class FaceContract(Contract):
    """Each package of the root packages hands out what others may use: its `__init__` is its face.

    `open_modules` may be imported as they stand, by their full names.
    """

    open_modules = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Collect each import that reaches past a face."""
        exempt: set[str] = {str(name) for name in self.open_modules or ()}
        ours = {name for name in graph.modules if not graph.is_module_squashed(name)}
        past = [
            (importer, imported)
            for importer in sorted(ours)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported in ours and imported not in exempt and not _within(importer, imported)
        ]
        return ContractCheck(kept=not past, metadata={"past": past})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each such import."""
        past: list[Any] = check.metadata["past"]
        for importer, imported in past:
            output.print_error(f"{importer} imports {imported}: import it from {imported.rpartition('.')[0]}")


def _within(importer: str, imported: str) -> bool:
    """Tell whether the importer is in the package that holds the imported one; a root package is open to all."""
    package = imported.rpartition(".")[0]
    return "." not in package or importer == package or importer.startswith(f"{package}.")
