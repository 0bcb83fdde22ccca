"""Frames, plots and one page."""
