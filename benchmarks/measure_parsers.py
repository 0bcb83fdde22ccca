"""A hundred thousand spoilt answers of boards for each parser: only named errors, soon."""

import sys

from spoilt_cases import SUBJECTS, try_all

EACH = 100_000
OTHERS = {"table files", "profile files", "model files", "campaigns", "tool sessions"}

if __name__ == "__main__":
    sys.exit(try_all({name: EACH for name in SUBJECTS if name not in OTHERS}))
