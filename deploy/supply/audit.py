"""`make audit`: compare every pinned version with the vulnerabilities that PyPI knows.

Without the network, or where PyPI's database cannot be asked, it fails: nothing was looked up then.
"""

import sys

from deploy.supply.tools import run


def main() -> None:
    """Exit with 1 if a version is vulnerable, or could not be looked up."""
    words = ("--strict", "--disable-pip", "--no-deps", "--requirement", "constraints.txt")
    sys.exit(run("pip-audit", *words))


if __name__ == "__main__":
    main()
