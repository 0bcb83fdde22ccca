"""Measure neural networks on boards, and search for the best network for one of them."""

__version__ = "0.1.0"
