"""Draws the rooms of the packages and their imports: `python scripts/draw_rooms.py` (`--check` changes nothing).

It writes two files from the import graph of import-linter: docs/images/rooms.svg, the drawing of docs/architecture.md,
and docs/rooms.md, the list of rooms with the first sentence of each. With `--check` it exits with 1 where one is stale.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
from draw_pictures import Sketch

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"gangplan": "optimizer", "gangplan_airflow": "plugins", "gangplan_kfp": "kfp_components"}
PAGE = ROOT / "docs" / "rooms.md"
DRAWING = ROOT / "docs" / "images" / "rooms.svg"
WIDTH, MARGIN, GAP = 1000, 24, 14  # pixels
LINE, HEAD = 17, 34  # pixels: a line of text; a box without one
BETWEEN = 54  # pixels between two rows of boxes, for the arrows


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """The rooms, and who imports whom.

    A room is a package or a module directly in `gangplan`, or one of the two adapters as a whole.
    """

    modules: frozenset[str]
    imports: dict[str, set[str]]  # by room: the other rooms that its modules import
    stages: tuple[str, ...]

    @cached_property
    def base(self) -> list[str]:
        """The rooms that reach no stage, directly or through others."""
        return sorted(room for room in self.imports if not self.reach(room) & set(self.stages))

    @cached_property
    def above(self) -> dict[str, set[str]]:
        """The imports between rooms outside of the base, without those that a longer way implies."""
        outside = {room: self.imports[room] - set(self.base) for room in self.imports if room not in self.base}
        return {
            room: {other for other in others if not any(other in self.reach(via) for via in others - {other})}
            for room, others in outside.items()
        }

    def reach(self, room: str) -> set[str]:
        """Return the room and all that it imports, directly or through others."""
        seen, ahead = set[str](), [room]
        while ahead:
            if (now := ahead.pop()) not in seen:
                seen.add(now)
                ahead += self.imports[now]
        return seen

    def rows(self) -> list[list[str]]:
        """Return the rooms outside of the base in rows: each room imports from rows below its own alone."""
        row: dict[str, int] = {}
        for room in TopologicalSorter(self.above).static_order():
            row[room] = max((row[other] + 1 for other in self.above[room]), default=0)
        rows = [sorted(room for room in row if row[room] == number) for number in range(max(row.values()) + 1)]
        return [list(self.stages), *rows[1:]]

    def inside(self, room: str) -> list[str]:
        """Return the packages in a package, at any depth."""
        parents = {module.rpartition(".")[0] for module in self.modules}
        return sorted(name for name in parents if name.startswith(room + "."))


def read_rooms() -> Rooms:
    """Read the rooms from the import graph, and the stages from import-linter's contract on them."""
    graph = grimp.build_graph(*SOURCES, cache_dir=None)
    modules = frozenset(graph.modules)
    imports: dict[str, set[str]] = {room_of(module): set() for module in modules if module != "gangplan"}
    imports.pop("gangplan.__main__", None)
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = room_of(module), room_of(imported)
            if here in imports and there in imports and here != there:
                imports[here].add(there)
    return Rooms(modules=modules, imports=imports, stages=read_stages())


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    package, *inner = module.split(".")
    return package if package != "gangplan" or not inner else f"gangplan.{inner[0]}"


def read_stages() -> tuple[str, ...]:
    """Return the stages, in the order of the contract that keeps them apart."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return next(tuple(one["modules"]) for one in contracts if "gangplan.telemetry" in one.get("modules", ()))


def words(module: str) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    place = ROOT / SOURCES[module.partition(".")[0]] / module.replace(".", "/")
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".").replace("|", "\\|")


def short(room: str) -> str:
    """Return a room's name as it is written in the drawing."""
    return room.removeprefix("gangplan.")


def page(rooms: Rooms) -> str:
    """Return docs/rooms.md."""
    lines = [
        "# The rooms",
        "",
        "`make rooms` writes this page from the imports and the first sentence of each package. `make lint` fails when",
        "it is out of date. [Architecture](architecture.md) has the drawing and explains it. The core's rooms lie in",
        "`optimizer/gangplan/`, the adapters' where their rows say.",
    ]
    for title, members in sections(rooms):
        lines += ["", f"## {title}", "", "| room | what it does | imports, beside the base |", "|---|---|---|"]
        for room in members:
            others = ", ".join(f"`{short(other)}`" for other in sorted(rooms.imports[room] - set(rooms.base)))
            lines.append(f"| `{path(rooms, room)}` | {words(room)} | {others} |")
            lines += [f"| `{path(rooms, inner)}` | {words(inner)} | |" for inner in rooms.inside(room)]
    return "\n".join(lines) + "\n"


def sections(rooms: Rooms) -> list[tuple[str, list[str]]]:
    """Return the page's parts: what is on top first, the base last."""
    upper = [room for row in reversed(rooms.rows()[1:]) for room in row]
    return [("Above the stages", upper), ("The stages", list(rooms.stages)), ("The base", rooms.base)]


def path(rooms: Rooms, room: str) -> str:
    """Return where a room lies: from the core's folder, or, of an adapter, from the root of the repository."""
    package = room.partition(".")[0]
    place = f"{SOURCES[package]}/{room.replace('.', '/')}".removeprefix("optimizer/gangplan/")
    return place + ("/" if any(module.startswith(room + ".") for module in rooms.modules) else ".py")


def drawing(rooms: Rooms) -> str:
    """Return docs/images/rooms.svg: one row of boxes for each level, arrows to what a room imports, the base below."""
    rows = in_few_crossings(rooms)
    heights = [max(HEAD + LINE * len(inner_names(rooms, room)) for room in row) for row in rows]
    base = list(lines_of([short(room) for room in rooms.base], 130))
    total = MARGIN + sum(heights) + BETWEEN * len(rows) + HEAD + LINE * len(base) + MARGIN
    sketch = Sketch("The rooms of gangplan; an arrow says who imports whom", int(total), WIDTH)
    places = place_boxes(rows, heights)
    for room, others in sorted(rooms.above.items()):
        for other in sorted(others):
            (x1, y1, w1, h1), (x2, y2, w2, _) = places[room], places[other]
            sketch.curve(x1 + w1 / 2, y1 + h1, x2 + w2 / 2, y2 - 1)
    for room, (x, y, w, h) in places.items():
        draw_box(sketch, rooms, room, (x, y, w, h))
    top = total - MARGIN - HEAD - LINE * len(base)
    sketch.box(MARGIN, top, WIDTH - 2 * MARGIN, HEAD + LINE * len(base), "done")
    sketch.text(WIDTH / 2, top + 21, "the base: every room may import it", "middle")
    for number, line in enumerate(base):
        sketch.text(WIDTH / 2, top + 21 + LINE * (number + 1), line, "middle", "small")
    return sketch.svg()


def in_few_crossings(rooms: Rooms) -> list[list[str]]:
    """Return the rows from the top down, each ordered by where the rooms lie that it imports."""
    rows = rooms.rows()
    middle = {room: (number + 0.5) / len(rows[0]) for number, room in enumerate(rows[0])}
    for row in rows[1:]:
        row.sort(key=lambda room: (sum(middle[other] for other in rooms.above[room]) / len(rooms.above[room]), room))
        middle |= {room: (number + 0.5) / len(row) for number, room in enumerate(row)}
    return rows[::-1]


def place_boxes(rows: list[list[str]], heights: list[int]) -> dict[str, tuple[float, float, float, float]]:
    """Return left, top, width and height of each room's box."""
    places: dict[str, tuple[float, float, float, float]] = {}
    top = float(MARGIN)
    for row, height in zip(rows, heights, strict=True):
        cell = (WIDTH - 2 * MARGIN) / len(row)
        width = min(cell - GAP, 190)
        for number, room in enumerate(row):
            places[room] = (MARGIN + cell * (number + 0.5) - width / 2, top, width, height)
        top += height + BETWEEN
    return places


def draw_box(sketch: Sketch, rooms: Rooms, room: str, place: tuple[float, float, float, float]) -> None:
    """Draw a room with its name, and the rooms inside it below."""
    x, y, w, h = place
    sketch.box(x, y, w, h, "card")
    sketch.box(x, y, w, h, "c2" if room in rooms.stages else "c0")
    inner = inner_names(rooms, room)
    first = y + (h - LINE * len(inner)) / 2 + 5
    sketch.text(x + w / 2, first, short(room), "middle")
    for number, name in enumerate(inner):
        sketch.text(x + w / 2, first + LINE * (number + 1), name, "middle", "small")


def inner_names(rooms: Rooms, room: str) -> list[str]:
    """Return the names of the rooms directly inside a room."""
    return [name.removeprefix(room + ".") for name in rooms.inside(room) if "." not in name.removeprefix(room + ".")]


def lines_of(names: Iterable[str], most: int) -> Iterable[str]:
    """Put names into lines of at most so many letters."""
    line = ""
    for name in names:
        if line and len(line) + len(name) > most:
            yield line
            line = ""
        line += (", " if line else "") + name
    yield line


def main(arguments: list[str]) -> int:
    """Write both files, or say which is stale."""
    sys.path[:0] = [str(ROOT / folder) for folder in SOURCES.values()]
    rooms = read_rooms()
    try:
        made = {PAGE: page(rooms), DRAWING: drawing(rooms)}
    except CycleError as error:
        print(f"rooms: {' imports '.join(map(str, error.args[1]))}: break this circle of imports", file=sys.stderr)
        return 1
    if "--check" not in arguments:
        for file, text in made.items():
            file.write_text(text)
        return 0
    stale = [file for file, text in made.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        print(f"{file.relative_to(ROOT)}: is not what the imports say: run `make rooms`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
