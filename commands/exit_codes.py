"""What the exit codes of `convd` mean; click itself exits with 2 for wrong usage."""

DONE = 0
FAILED = 1
"""The command failed, or what it checked is not so; the text says why."""
WRONG_USAGE = 2
CALLS_CUT = 3
"""`convd serve` ended, and had to cut accepted calls off."""
UNAVAILABLE = 4
"""The server cannot be reached, or cannot answer now: later, the same command may succeed."""
NOT_ALLOWED = 5
"""The server does not know the caller, or does not allow this call."""
