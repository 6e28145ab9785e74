"""What an image layer is made of, known without convd itself.

python dependencies.py EXTRA...             what the extras of convd need
python dependencies.py --constraints FILE   FILE with the wheels in wheels/ for their packages
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path


def requirements(*extras: str) -> list[str]:
    """Read pyproject.toml in the working folder: what convd and some of its extras need."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    needed = list(project["dependencies"])
    wanted = list(extras)
    for extra in wanted:
        for requirement in optional[extra]:
            own = re.fullmatch(rf"{project['name']}\[(.+)\]", requirement)
            if own is None:
                needed.append(requirement)
            else:
                # An extra that is made of others; the list grows while it is read.
                wanted += [name for name in own[1].split(",") if name not in wanted]
    return list(dict.fromkeys(needed))


def with_own_wheels(constraints: str, wheels: Path) -> str:
    """Allow of some packages only the wheels that the builder has put beside the sources.

    Args:
        constraints: Constraints with hashes.
        wheels: A folder with wheels; it need not exist.
    """
    for wheel in sorted(wheels.glob("*.whl")):
        name = wheel.name.partition("-")[0].lower().replace("_", "-")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        # pip would prefer a file whose hash the index states.
        constraints = re.sub(
            rf"^({re.escape(name)}==\S+) (?:\\\n *--hash=\S+ ?)+",
            rf"\1 --hash=sha256:{digest}",
            constraints,
            flags=re.M,
        )
    return constraints


def main() -> None:
    """Print what is asked for."""
    first, *rest = sys.argv[1:]
    if first == "--constraints":
        text = with_own_wheels(Path(rest[0]).read_text(), Path("wheels"))
    else:
        text = "\n".join(requirements(first, *rest)) + "\n"
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
