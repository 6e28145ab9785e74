"""One artifact on disk: written once with its checksums, which every read verifies."""

import hashlib
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from convd.artifact.contained import ContainedFolder, is_plain_path
from convd.artifact.errors import InvalidArtifactError, OutsideError
from convd.artifact.golden import GOLDEN_CASES, GoldenCases
from convd.artifact.manifest import Manifest
from convd.artifact.statement import Statement

MODEL_FILE = PurePosixPath("model.onnx")
MANIFEST_FILE = PurePosixPath("manifest.json")
MANIFEST_CHECKSUM_FILE = PurePosixPath("manifest.json.sha256")

MAX_MODEL_BYTES = 2**31
"""Largest ONNX file; protobuf reads no larger message."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest of the other files."""

MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""Largest manifest; one of a network with 20,000 classes takes two mebibytes."""


class Artifact:
    """A version directory whose manifest has been checked.

    Args:
        folder: The version directory.
        manifest: Its manifest.
        signed: Its signed statement; None if none is required.
    """

    def __init__(
        self, folder: ContainedFolder, manifest: Manifest, signed: Statement | None = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.signed = signed

    @classmethod
    def open(cls, folder: ContainedFolder | Path, *, signed: Statement | None = None) -> "Artifact":
        """Read and check the manifest; the other files are checked as they are read.

        Args:
            folder: The version directory; nothing is read outside it.
            signed: The version's signed statement, which must name these very files; None requires
                none.

        Raises:
            InvalidArtifactError: The manifest is missing, altered, of an unknown schema, or not
                the one that was signed.
            OutsideError: It is not a file in this folder.
        """
        if isinstance(folder, Path):
            folder = ContainedFolder.of(folder)
        data = _read(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        if signed is not None and signed.files.get(str(MANIFEST_FILE)) != sha256(data):
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} is not the one that was signed: it was altered after publication"
            )
        recorded = _read(folder, MANIFEST_CHECKSUM_FILE, MAX_MANIFEST_BYTES)
        if recorded != _checksum_line(data):
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} does not match {MANIFEST_CHECKSUM_FILE}: it was altered after "
                "publication; export the model again"
            )
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            raise _schema_error(error) from error
        artifact = cls(folder, manifest, signed)
        if not all(map(is_plain_path, manifest.files)):
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} lists a file whose name is not allowed: names have letters, "
                "digits, '_', '.', '+' and '-', and lead into the artifact"
            )
        if signed is not None and signed.files != manifest.files | _manifest_files(data):
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} lists other files than were signed: sign the version again"
            )
        return artifact

    def read(self, file: PurePosixPath) -> bytes:
        """Read one file, checked against the manifest.

        The bytes that were verified are the bytes returned, so nothing can change in between.

        Raises:
            InvalidArtifactError: The file is missing, altered or not listed.
            OutsideError: It is not a file in the artifact's folder.
        """
        expected = self.manifest.files.get(str(file))
        if expected is None:
            raise InvalidArtifactError(f"{_shown(file)} is not listed in {MANIFEST_FILE}")
        data = _read(self.folder, file, MAX_MODEL_BYTES if file == MODEL_FILE else MAX_FILE_BYTES)
        if sha256(data) != expected:
            raise InvalidArtifactError(
                f"{file} does not match its checksum in {MANIFEST_FILE}: it was altered after "
                "publication; export the model again"
            )
        return data

    def golden_cases(self) -> GoldenCases:
        """Read the golden cases.

        Raises:
            InvalidArtifactError: They are missing, altered or malformed.
        """
        try:
            cases = GoldenCases.model_validate_json(self.read(GOLDEN_CASES))
        except ValidationError as error:
            raise InvalidArtifactError(
                f"{GOLDEN_CASES} is malformed: export the model again", detail=_first(error)
            ) from error
        classes = len(self.manifest.labels)
        if not cases.cases or any(len(case.probabilities) != classes for case in cases.cases):
            raise InvalidArtifactError(
                f"{GOLDEN_CASES} must hold at least one case, each with {classes} probabilities"
            )
        return cases

    def check_all_files(self) -> None:
        """Check every file that the manifest lists.

        Raises:
            InvalidArtifactError: One of them is missing or altered.
            OutsideError: One of them is not a file in the artifact's folder.
        """
        for file in self.manifest.files:
            self.read(PurePosixPath(file))

    def files(self) -> dict[str, str]:
        """SHA-256 of every file that makes up the artifact, by relative path, for a signature.

        Raises:
            InvalidArtifactError: One of them is missing or altered.
        """
        self.check_all_files()
        data = _read(self.folder, MANIFEST_FILE, MAX_MANIFEST_BYTES)
        return self.manifest.files | _manifest_files(data)


def checksums(path: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative POSIX path, for a manifest's `files`."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): sha256(file.read_bytes()) for file in files}


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest and its checksum, in the format of `sha256sum --check`.

    Args:
        path: The version directory.
        manifest: The manifest.
    """
    data = (manifest.model_dump_json(indent=2) + "\n").encode()
    (path / MANIFEST_FILE).write_bytes(data)
    (path / MANIFEST_CHECKSUM_FILE).write_bytes(_checksum_line(data))


def sha256(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _manifest_files(manifest_bytes: bytes) -> dict[str, str]:
    return {
        str(MANIFEST_FILE): sha256(manifest_bytes),
        str(MANIFEST_CHECKSUM_FILE): sha256(_checksum_line(manifest_bytes)),
    }


def _checksum_line(manifest_bytes: bytes) -> bytes:
    return f"{sha256(manifest_bytes)}  {MANIFEST_FILE}\n".encode()


def _read(folder: ContainedFolder, file: PurePosixPath, max_bytes: int) -> bytes:
    if not is_plain_path(str(file)):
        raise OutsideError(f"{_shown(file)} is not the name of a file in an artifact")
    try:
        return folder.read(file, max_bytes)
    except FileNotFoundError:
        raise InvalidArtifactError(f"{file} is missing") from None


def _shown(file: PurePosixPath) -> str:
    return str(file) if is_plain_path(str(file)) else "a file with a name that is not allowed"


def _schema_error(error: ValidationError) -> InvalidArtifactError:
    """A manifest that cannot be used; only the field, where it is one of ours, is public."""
    field = str((error.errors()[0]["loc"] or ("",))[0])
    where = f" ({field})" if field in Manifest.model_fields else ""
    return InvalidArtifactError(
        f"{MANIFEST_FILE} does not match schema version 1{where}: it may have been written by "
        "another version of convd",
        detail=_first(error),
    )


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "the whole"
    return f"{where}: {problem['msg']}"
