"""Where a benchmark can fail: each figure beside its bar, and whether that is met."""


def bar(name: str, value: float, limit: float, *, least: bool, form: str = ".2%") -> bool:
    """Print the figure, its bar and whether it is met; return whether it is.

    `least`: the bar is the smallest value that is good enough, else the largest. `form` is the
    format of both. A figure that is not a number meets no bar.
    """
    met = value >= limit if least else value <= limit
    verdict, side = "met" if met else "MISSED", "least" if least else "most"
    print(f"{verdict}: {name}: {value:{form}} (bar: at {side} {limit:{form}})", flush=True)
    return met
