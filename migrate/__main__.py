"""`python -m migrate` is the command `migrate`."""

from migrate.cli import main

main(prog_name="migrate")
