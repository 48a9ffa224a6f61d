"""Draws the pictures of docs/concepts.md into docs/pictures/: `python scripts/draw_pictures.py`.

Each is one SVG that follows the reader's light or dark scheme, in the colours of the report.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

from gangplan.pages.colours import DARK, LIGHT

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDTH = 680
HOUR = 100  # pixels
LEFT = 110  # where time begins


class Sketch:
    """Boxes, lines and words on a card."""

    def __init__(self, title: str, height: int, width: int = WIDTH) -> None:
        self.title, self.height, self.width = title, height, width
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, colour: str, kind: str = "") -> None:
        """Draw a box; `kind` is nothing (filled), `open` (dashed) or `bare` (an outline)."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="4" class="{colour} {kind}"/>')

    def bar(self, x: float, y: float, w: float, h: float, colour: str, words: str, kind: str = "") -> None:
        """Draw a box with words in its middle."""
        self.box(x, y, w, h, colour, kind)
        self.text(x + w / 2, y + h / 2 + 4.5, words, "middle")

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> None:
        """Write words; `kind` is nothing or `small`."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str = "") -> None:
        """Draw a line; `kind` is nothing, `thin`, `arrow` or `stop`."""
        self.parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"/>')

    def curve(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw an arrow that leaves downwards and arrives from above."""
        middle = (y1 + y2) / 2
        self.parts.append(
            f'<path d="M{x1:g},{y1:g} C{x1:g},{middle:g} {x2:g},{middle:g} {x2:g},{y2:g}" class="arrow curve"/>'
        )

    def moment(self, x: float, y1: float, y2: float, words: str, anchor: str = "middle") -> None:
        """Mark a moment by a dashed line and its name below."""
        self.line(x, y1, x, y2, "thin")
        self.text(x, y2 + 15, words, anchor, "small")

    def hours(self, first: int, count: int, y: float) -> None:
        """Draw an axis of hours."""
        self.line(LEFT, y, LEFT + (count - 1) * HOUR + 30, y, "arrow")
        for index in range(count):
            self.line(LEFT + index * HOUR, y - 4, LEFT + index * HOUR, y + 4)
            self.text(LEFT + index * HOUR, y + 20, f"{first + index}:00", "middle", "small")

    def svg(self) -> str:
        """Return the file."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img">'
        card = f'<rect width="{self.width}" height="{self.height}" rx="10" class="card"/>'
        body = "\n".join([head, f"<title>{escape(self.title)}</title>", style(), MARKS, card, *self.parts])
        return body + "\n</svg>\n"


MARKS = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" class="head"/></marker></defs>'
)


def style() -> str:
    """Return the rules for light, and what dark changes in them."""
    shape = """
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.small{font-size:11.5px}
rect{stroke-width:1.5;fill-opacity:.24}
.card{fill-opacity:1;stroke-width:1}
.open{fill-opacity:0;stroke-dasharray:4 3}
.bare{fill-opacity:0}
line,.curve{stroke-width:1.5}
.curve{fill:none}
.thin{stroke-dasharray:3 3;stroke-width:1}
.arrow,.stop{marker-end:url(#head)}"""
    return f"<style>{shape}\n{rules(LIGHT)}\n@media (prefers-color-scheme:dark){{{rules(DARK)}}}\n</style>"


def rules(palette: dict[str, str]) -> str:
    """Return the colours of one scheme."""
    named = "".join(
        f".{role}{{fill:{palette[role]};stroke:{palette[role]}}}" for role in ("c0", "c1", "c2", "c3", "done")
    )
    ink, muted = palette["ink"], palette["muted"]
    plain = (
        f"text,.head{{fill:{ink}}}.small{{fill:{muted}}}line,.curve{{stroke:{muted}}}.stop{{stroke:{palette['mark']}}}"
    )
    return f".card{{fill:{palette['surface']};stroke:{palette['grid']}}}{named}{plain}"


def gang() -> Sketch:
    """Two nodes of four slots: one gang over both, one small one, one slot free."""
    sketch = Sketch(
        "A gang of 2 pods with 3 GPUs each holds slots on two nodes; another gang holds one; one is free", 178
    )
    for node in range(2):
        y = 24 + node * 68
        sketch.text(24, y + 30, f"node h100-{node}")
        sketch.box(116, y - 6, 244, 60, "done", "bare")
        for slot in range(4):
            free = slot == 3 and node == 1
            colour = "done" if free else "c1" if slot == 3 else "c0"
            sketch.bar(
                124 + slot * 58,
                y + 2,
                52,
                44,
                colour,
                "free" if free else "B" if slot == 3 else "A",
                "open" if free else "",
            )
    sketch.text(384, 46, "gang A: 2 pods x 3 GPUs, all or none")
    sketch.text(384, 70, "gang B: 1 pod x 1 GPU")
    sketch.text(384, 114, "slot: one GPU of a node, for a time")
    sketch.text(384, 138, "pool: nodes of one kind")
    sketch.text(238, 168, "pool h100", "middle", "small")
    return sketch


def promise() -> Sketch:
    """A large gang with a promised start; a short one goes ahead of it, a long one does not."""
    sketch = Sketch("A short gang runs ahead of a promised one; a long one would delay it and starts after it", 226)
    for row, node in enumerate(("node 0", "node 1")):
        sketch.text(24, 50 + row * 62, node)
    sketch.bar(LEFT, 22, 2 * HOUR, 50, "done", "runs, walltime until 11:00")
    sketch.bar(LEFT, 84, 1.5 * HOUR, 50, "c2", "short: starts now")
    sketch.bar(LEFT + 2 * HOUR, 22, 2 * HOUR, 112, "c0", "")
    sketch.text(LEFT + 3 * HOUR, 72, "large: promised", "middle")
    sketch.text(LEFT + 3 * HOUR, 92, "both nodes at 11:00", "middle")
    sketch.bar(LEFT + 4 * HOUR, 84, 1.5 * HOUR, 50, "c1", "long: after it")
    sketch.bar(LEFT + 1.5 * HOUR + 3, 84, 0.5 * HOUR - 6, 50, "done", "free", "open")
    sketch.hours(9, 6, 152)
    sketch.text(24, 208, "Came first: large. Then short and long: short is done by 11:00, long would not be.")
    return sketch


def window() -> Sketch:
    """An accepted window in the future, and what fits before it."""
    sketch = Sketch("A window asks for slots between an earliest and a latest start; later gangs fit around it", 188)
    sketch.text(24, 56, "slots")
    sketch.bar(LEFT, 28, 1.6 * HOUR, 46, "c2", "others, done before it")
    sketch.bar(LEFT + 2 * HOUR, 28, 2 * HOUR, 46, "c0", "accepted: 11:00 to 13:00")
    sketch.bar(LEFT + 4 * HOUR + 4, 28, 1.2 * HOUR, 46, "c1", "others, after it")
    sketch.box(LEFT + 2 * HOUR, 92, 1.5 * HOUR, 18, "c0", "open")
    sketch.text(LEFT + 2.75 * HOUR, 106, "may start in here", "middle", "small")
    sketch.text(LEFT + 2 * HOUR - 8, 106, "earliest_start", "end", "small")
    sketch.text(LEFT + 3.5 * HOUR + 8, 106, "latest_start", "start", "small")
    sketch.hours(9, 6, 134)
    return sketch


def lease() -> Sketch:
    """A lease with renewals and its walltime; the next holder's token is larger; a late call is refused."""
    sketch = Sketch("Renewals push a lease out, never past its walltime; the next holder has a larger token", 214)
    sketch.text(24, 52, "holder 1")
    sketch.bar(LEFT, 26, 130, 42, "c0", "token 7")
    sketch.bar(LEFT + 130, 26, 90, 42, "c0", "renewed")
    sketch.bar(LEFT + 220, 26, 90, 42, "c0", "renewed")
    sketch.bar(LEFT + 310, 26, 70, 42, "c0", "", "open")
    sketch.text(LEFT + 345, 51, "not asked", "middle", "small")
    sketch.text(24, 122, "holder 2")
    sketch.bar(LEFT + 310, 96, 220, 42, "c1", "token 8")
    sketch.moment(LEFT, 18, 152, "granted")
    sketch.moment(LEFT + 310, 18, 152, "lease ends")
    sketch.line(LEFT + 380, 18, LEFT + 380, 82, "thin")
    sketch.text(LEFT + 387, 28, "walltime: never later", kind="small")
    sketch.line(LEFT + 470, 64, LEFT + 470, 93, "stop")
    sketch.text(LEFT + 480, 62, "late, with 7:", kind="small")
    sketch.text(LEFT + 480, 78, "refused", kind="small")
    sketch.text(24, 198, "Released early, the slots go to holder 2 at once. Silent, they do when the lease ends.")
    return sketch


def cohort() -> Sketch:
    """Two tenants of a cohort: one borrows what the other lends and does not use."""
    sketch = Sketch("Vision holds 10 GPUs: 8 of its own and 2 that search lends", 212)
    cell = 40
    for row, (name, words) in enumerate((("vision", "nominal 8, borrow 4"), ("search", "nominal 8, lend 6"))):
        y = 26 + row * 66
        sketch.text(24, y + 18, name)
        sketch.text(24, y + 35, words, kind="small")
        sketch.box(156 - 5, y - 5, 8 * cell + 6, 46, "done", "bare")
        for place in range(8):
            used = row == 0 or place < 4
            lent = row == 1 and place in (4, 5)
            colour = "c0" if row == 0 or lent else "c1" if used else "done"
            words = "own" if used else "lent" if lent else "free"
            sketch.bar(156 + place * cell, y, cell - 4, 36, colour, words, "" if used or lent else "open")
    sketch.line(156 + 4.9 * cell, 88, 156 + 4.9 * cell, 70, "arrow")
    sketch.text(494, 44, "10 in use: 8 + 2")
    sketch.text(494, 62, "may take 2 more, to 12", kind="small")
    sketch.text(494, 110, "4 in use, 2 of 6 lent")
    sketch.text(494, 128, "keeps 2 for itself", kind="small")
    sketch.text(24, 172, "Together they never hold more than 16, the sum of their nominal quotas.")
    sketch.text(24, 191, "Reclaim: when search wants its own back, gangs of vision that borrow get notice.")
    return sketch


def preemption() -> Sketch:
    """A victim's last minutes: notice, checkpoint, end; then the grace of the next."""
    sketch = Sketch(
        "A preemptible gang is told, has time for a checkpoint, and leaves; the next one is safe for a while", 216
    )
    end, told = LEFT + 290, LEFT + 170
    sketch.text(24, 52, "victim")
    sketch.bar(LEFT, 26, told - LEFT, 42, "c1", "runs")
    sketch.bar(told, 26, end - told, 42, "c3", "saves, leaves")
    sketch.text(24, 122, "beneficiary")
    sketch.bar(told, 96, end - told, 42, "c0", "waits", "open")
    sketch.bar(end, 96, 240, 42, "c0", "runs")
    sketch.moment(told, 18, 152, "notice")
    sketch.moment(end, 18, 152, "the slots are taken")
    sketch.line(end, 82, end + 130, 82, "arrow")
    sketch.text(end + 138, 86, "grace: safe so long", kind="small")
    sketch.text(24, 200, "Between notice and end: 2 minutes, or the victim's own checkpoint time where that is longer.")
    return sketch


def leader() -> Sketch:
    """Clients append to the inbox; the leader decides and answers; another takes over when it is silent."""
    sketch = Sketch("Clients append requests to the inbox; one leader decides for all and writes the answers", 248)
    for row, name in enumerate(("client", "client", "client")):
        sketch.bar(24, 24 + row * 48, 92, 36, "c2", name)
        sketch.line(116, 42 + row * 48, 196, 90 + (row - 1) * 14, "arrow")
    sketch.box(192, 20, 256, 146, "done", "bare")
    sketch.text(320, 38, "database", "middle", "small")
    sketch.bar(202, 64, 92, 52, "c1", "inbox")
    sketch.bar(334, 46, 108, 32, "c0", "reservations")
    sketch.box(334, 104, 108, 46, "done")
    sketch.text(388, 123, "who leads:", "middle", "small")
    sketch.text(388, 139, "term 4, beat 118", "middle", "small")
    sketch.bar(536, 48, 112, 68, "c0", "leader")
    sketch.line(294, 90, 534, 90, "arrow")
    sketch.line(534, 64, 444, 64, "arrow")
    sketch.line(534, 104, 444, 122, "arrow")
    sketch.text(24, 190, "One tick: read the inbox, decide for all, write grants and answers in one transaction.")
    sketch.text(24, 210, "When the beat stands still for 2 seconds, another client takes over with term 5;")
    sketch.text(24, 230, "what term 4 still tries to write is refused.")
    return sketch


PICTURES: tuple[Callable[[], Sketch], ...] = (gang, promise, window, lease, cohort, preemption, leader)


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        (FOLDER / f"{draw.__name__}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
