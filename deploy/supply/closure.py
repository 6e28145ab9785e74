"""What a set of requirements needs in the end, as far as it is installed here."""

import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)")


def closure(wanted: Iterable[str]) -> set[str]:
    """Canonical names of all packages that some requirements bring along.

    Raises:
        PackageNotFoundError: One of them is not installed here.
    """
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(one) for one in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            for text in metadata.requires(name) or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in found}


def pinned(constraints: Path) -> dict[str, str]:
    """The version of each package in a file of constraints, by canonical name."""
    pins = filter(None, map(_PIN.match, constraints.read_text().splitlines()))
    return {canonicalize_name(pin[1]): pin[2] for pin in pins}
