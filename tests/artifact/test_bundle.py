"""Whatever a manifest names as its files, reading them ends with an error of the artifact's own."""

import json
from pathlib import Path, PurePosixPath

import pytest

from convd.artifact.bundle import MANIFEST_CHECKSUM_FILE, MANIFEST_FILE, Artifact, sha256
from convd.artifact.errors import InvalidArtifactError, OutsideError
from tests.support import rewrite_manifest
from tests.tiny_artifact import publish_tiny


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 300, "x/" * 3000, "../../other", "/etc/passwd", "golden", "", "loop"]
)
def test_a_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "pets" / str(publish_tiny(tmp_path))
    (folder / "loop").symlink_to("loop")
    files = Artifact.open(folder).manifest.files
    rewrite_manifest(folder, files=files | {name: "0" * 64})
    with pytest.raises((InvalidArtifactError, OutsideError)):
        Artifact.open(folder).check_all_files()
    rewrite_manifest(folder, files=files)
    with pytest.raises(InvalidArtifactError, match="is not listed in manifest"):
        Artifact.open(folder).read(PurePosixPath(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize": {"kind": "seam", "size": 4}}, r"preprocessing\.resize: .*'seam'.*'letterbox'"),
        ({"interpolation": "spline"}, r"preprocessing\.interpolation: .*'opencv_bilinear'"),
        ({"sharpen": True}, r"preprocessing\.sharpen: Extra inputs are not permitted"),
    ],
)
def test_a_recipe_that_this_version_does_not_know_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pets" / str(publish_tiny(tmp_path))
    rewrite_recipe(folder, Artifact.open(folder).manifest.preprocessing.model_dump() | change)
    with pytest.raises(InvalidArtifactError, match=f"another version of convd: {message}"):
        Artifact.open(folder)


def test_an_artifact_from_before_newer_steps_loads_as_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "pets" / str(publish_tiny(tmp_path))
    before = Artifact.open(folder).manifest.preprocessing
    old: dict[str, object] = {
        "resize": {"kind": "fixed", "height": 4, "width": 6},
        "interpolation": "bilinear",
    }
    rewrite_recipe(folder, old)
    assert Artifact.open(folder).manifest.preprocessing == before


def rewrite_recipe(folder: Path, recipe: dict[str, object]) -> None:
    """Put a recipe that is not checked into a manifest."""
    manifest = json.loads((folder / MANIFEST_FILE).read_bytes()) | {"preprocessing": recipe}
    data = json.dumps(manifest).encode()
    (folder / MANIFEST_FILE).write_bytes(data)
    (folder / MANIFEST_CHECKSUM_FILE).write_text(f"{sha256(data)}  {MANIFEST_FILE}\n")
