"""`python -m boardfit` is the command line."""

from boardfit.cli import main

main()
