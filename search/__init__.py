"""From a lookup table to a network."""
