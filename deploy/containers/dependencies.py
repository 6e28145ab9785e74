"""Print what extras of convd need, without convd itself, for an image layer of its own.

python deploy/containers/dependencies.py EXTRA...
"""

import re
import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read pyproject.toml in the working folder and print one requirement a line."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = list(project["dependencies"])
    wanted = sys.argv[1:]
    for extra in wanted:
        for requirement in extras[extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            if own is None:
                needed.append(requirement)
            else:
                # An extra that is made of others; the list grows while it is read.
                wanted += [name for name in own[1].split(",") if name not in wanted]
    sys.stdout.write("\n".join(dict.fromkeys(needed)) + "\n")


if __name__ == "__main__":
    main()
