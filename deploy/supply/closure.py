"""What a set of requirements needs in the end, as far as it is installed here."""

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)")


def closure(wanted: Iterable[str], pins: Mapping[str, str]) -> set[str]:
    """Canonical names of all packages that some requirements bring along.

    Args:
        wanted: The requirements.
        pins: The pinned version of each package, as `pinned` reads it.

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
            # Another version than the pinned one may need something else.
            installed = Version(metadata.version(name)).public
            texts = metadata.requires(name) if installed == pins.get(name) else ()
            for text in texts or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return {name for name, _ in found}


def pinned(constraints: Path) -> dict[str, str]:
    """The version of each package in a file of constraints, by canonical name."""
    pins = filter(None, map(_PIN.match, constraints.read_text().splitlines()))
    return {canonicalize_name(pin[1]): pin[2] for pin in pins}
