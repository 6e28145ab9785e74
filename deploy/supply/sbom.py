"""`make sbom`: CycloneDX bills of materials for the images, from what they are built with, by hash.

The operating system's packages are the base image's: its maker publishes a bill for them.
"""

import os
import re

from packaging.utils import canonicalize_name

from deploy.containers.dependencies import requirements
from deploy.supply.closure import closure, pinned
from deploy.supply.lock import FOLDER
from deploy.supply.tools import ROOT, run

OUTPUT = ROOT / "runs" / "sbom"
IMAGES = {"serve": ("serve",), "export": ("serve", "export")}
_NAME = re.compile(r"[A-Za-z0-9_.-]+(?===)")


def main() -> None:
    """Write one file for each image."""
    os.chdir(ROOT)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    pins = pinned(ROOT / "constraints.txt")
    for image, extras in IMAGES.items():
        listed = OUTPUT / f"{image}.txt"
        listed.write_text(locked(closure(requirements(*extras), pins)))
        result = OUTPUT / f"{image}.cdx.json"
        words = ("--output-reproducible", "--pyproject", "pyproject.toml", "--output-file", result)
        if run("cyclonedx-py", "requirements", listed, *words) != 0:
            raise SystemExit(f"{result} was not written")


def locked(names: set[str]) -> str:
    """The entries of some packages in the images' constraints, with their hashes."""
    entries = re.split(r"(?m)^(?=\S+==)", (FOLDER / "constraints.txt").read_text())
    found = [(canonicalize_name(name[0]), one) for one in entries if (name := _NAME.match(one))]
    return "".join(entry for name, entry in found if name in names)


if __name__ == "__main__":
    main()
