"""Power curves as a picture: how fast work is under caps, and what the same work takes of energy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gangplan import pages
from gangplan.config import write_atomic
from gangplan.errors import InputError
from gangplan.types import Knob, PowerCurve

_LABELS = {Knob.CAP: "cap, W", Knob.CLOCK: "locked clock, MHz"}


def draw_curves(path: Path, curves: Sequence[PowerCurve]) -> Path:
    """Write the picture where its name says: .svg or .png."""
    if path.suffix not in (".svg", ".png"):
        raise InputError("plot", path, "must end in .svg or .png")
    try:
        with pages.style():
            figure = _draw(curves)
            if path.suffix == ".png":
                path.write_bytes(pages.to_png(figure))
            else:
                write_atomic(path, pages.to_svg_file(figure))
    except OSError as error:
        raise InputError("plot", path, f"cannot be written ({error.strerror}): name a file elsewhere") from None
    return path


def _draw(curves: Sequence[PowerCurve]) -> pages.Figure:
    """Draw speed, and energy for the same work, both beside the GPU without a cap; a curve for each class."""
    figure, (speed, energy) = pages.new_panels(2, 7, 6)
    for place, curve in enumerate(curves):
        colour = pages.LIGHT[pages.SERIES_ROLES[place % len(pages.SERIES_ROLES)]]
        settings = [point.setting for point in curve.points]
        full = curve.points[-1].watts
        name = f"{curve.workload_class} on {curve.accelerator}, measured {curve.measured}"
        look = {"color": colour, "marker": "o", "markersize": 4, "label": name}
        speed.plot(settings, [point.speed for point in curve.points], **look)
        energy.plot(settings, [point.watts / full / point.speed for point in curve.points], **look)
    speed.set_title("Speed beside that without a cap")
    energy.set_title("Energy for the same work beside that without a cap")
    energy.set_xlabel(" or ".join(_LABELS[knob] for knob in Knob if any(curve.knob is knob for curve in curves)))
    for axes in (speed, energy):
        axes.set_ylim(bottom=0)
    speed.legend(loc="lower right")
    return figure
