"""GPU capacity that a pipeline can be promised."""

__version__ = "0.1.0"
