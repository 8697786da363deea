"""Fairlead: from a fitted model to a watched canary."""

__version__ = "0.1.0"
