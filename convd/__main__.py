"""`python -m convd` is the command `convd`."""

from convd.commands.main import main

main()
