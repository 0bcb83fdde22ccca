"""Reach a board, and leave it as it was found."""
