"""Whatever a manifest names as its files, reading them ends with an error of the artifact's own."""

from pathlib import Path, PurePosixPath

import pytest

from convd.artifact.bundle import Artifact
from convd.artifact.errors import InvalidArtifactError
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
    artifact = Artifact.open(folder)
    with pytest.raises(InvalidArtifactError):
        artifact.read(PurePosixPath(name))
    with pytest.raises(InvalidArtifactError):
        artifact.check_all_files()
