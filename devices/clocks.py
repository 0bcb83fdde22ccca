"""The clock by which this machine knows how long it was not heard of."""

import time


def lasting() -> float:
    """Seconds of this machine, also those that it slept, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
