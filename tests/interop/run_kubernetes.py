"""`make kubernetes-check`: every overlay of deploy/kubernetes against the schemas of its parts."""

import subprocess
import tempfile
from pathlib import Path

from tests.interop.environments import kubectl, manifest_schemas_python
from tests.support import ROOT

MANIFESTS = ROOT / "deploy" / "kubernetes"


def main() -> None:
    """Build every overlay, and check what comes out; a non-zero exit says that one failed."""
    with tempfile.TemporaryDirectory() as folder:
        built = [
            build(place, Path(folder))
            for place in [*sorted(MANIFESTS.glob("overlays/*")), MANIFESTS / "kserve"]
        ]
        words: list[str | Path] = [
            manifest_schemas_python(),
            "-m",
            "tests.interop.manifest_schemas",
        ]
        subprocess.run([*words, *built], check=True, cwd=ROOT)


def build(place: Path, folder: Path) -> Path:
    """Build an overlay into a file."""
    target = folder / f"{place.name}.yaml"
    with target.open("wb") as file:
        subprocess.run([kubectl(), "kustomize", place], check=True, stdout=file)
    return target


if __name__ == "__main__":
    main()
