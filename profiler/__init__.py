"""From the description of a network to a number that one believes."""
