"""Colours by role: each is a CSS variable with a light and a dark value, so that one drawing serves both.

The palette is that of Okabe and Ito, which people with any common colour blindness can tell apart.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#1b1f24",
    "muted": "#5c6670",
    "grid": "#dfe3e8",
    "surface": "#fefefe",
    "fan": "#0072b2",
    "c0": "#0073b3",
    "c1": "#e69f00",
    "c2": "#009e73",
    "c3": "#d55e00",
    "c4": "#56b4e9",
    "c5": "#cc79a7",
    "c6": "#b8a800",
    "c7": "#7a5195",
    "wait": "#e6a000",
    "hold": "#0074b4",
    "done": "#8a94a0",
    "mark": "#a3123a",
}
DARK = LIGHT | {
    "ink": "#e8eaed",
    "muted": "#a8b0ba",
    "grid": "#353b43",
    "surface": "#1a1d21",
    "fan": "#5bb0e8",
    "c0": "#4a9fd8",
    "done": "#78828e",
    "hold": "#4a9fd9",
    "mark": "#ff7d9c",
}
SERIES_ROLES = tuple(f"c{index}" for index in range(8))


def as_variables(drawing: str) -> str:
    """Replace each light colour of a drawing by its CSS variable."""
    for role, colour in LIGHT.items():
        drawing = drawing.replace(colour, f"var(--{role})")
    return drawing
