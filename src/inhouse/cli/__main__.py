"""`python -m inhouse.cli` is the `inhouse` command."""

from inhouse.cli.commands import main

main()
