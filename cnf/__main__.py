"""`python -m cnf` is the command `cnf`."""

from cnf.cli import main

main()
