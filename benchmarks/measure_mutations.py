"""A hundred thousand spoilt files and campaigns: only named errors, soon, and nothing is run."""

import sys

from spoilt_cases import try_all

CASES = {
    "table files": 4_000,
    "profile files": 4_000,
    "model files": 70_000,
    "campaigns": 1_000,
    "tool sessions": 20_000,
}

if __name__ == "__main__":
    sys.exit(try_all(CASES))
