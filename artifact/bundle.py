"""One artifact on disk: written once with its checksums, which every read verifies."""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from convd.artifact.errors import InvalidArtifactError
from convd.artifact.golden import GOLDEN_CASES, GoldenCases
from convd.artifact.manifest import Manifest
from convd.artifact.signature import SIGNATURE_FILE, check_signature, sign

MODEL_FILE = PurePosixPath("model.onnx")
MANIFEST_FILE = PurePosixPath("manifest.json")
MANIFEST_CHECKSUM_FILE = PurePosixPath("manifest.json.sha256")


MAX_MODEL_BYTES = 2**31
"""Largest ONNX file; protobuf reads no larger message."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest of the other files."""


class Artifact:
    """A version directory whose manifest has been checked.

    Args:
        path: The version directory.
        manifest: Its manifest.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path, *, signed_by: Ed25519PublicKey | None = None) -> "Artifact":
        """Read and check the manifest; the other files are checked as they are read.

        Args:
            path: The version directory.
            signed_by: The key whose signature the manifest must carry; None requires none.

        Raises:
            InvalidArtifactError: The manifest is missing, altered, of an unknown schema, or not
                signed with this key.
        """
        manifest_bytes = _read(path, MANIFEST_FILE)
        if signed_by is not None:
            _check_signed(path, manifest_bytes, signed_by)
        recorded = _read(path, MANIFEST_CHECKSUM_FILE)
        if recorded != _checksum_line(manifest_bytes):
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} does not match {MANIFEST_CHECKSUM_FILE}: it was altered after "
                "publication; export the model again"
            )
        try:
            return cls(path, Manifest.model_validate_json(manifest_bytes))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "manifest"
            raise InvalidArtifactError(
                f"{MANIFEST_FILE} does not match schema version 1: {where}: "
                f"{problem['msg']}; it may have been written by another version of convd"
            ) from error

    def read(self, file: PurePosixPath) -> bytes:
        """Read one file, checked against the manifest.

        The bytes that were verified are the bytes returned, so nothing can change in between.

        Raises:
            InvalidArtifactError: The file is missing, altered or not listed.
        """
        data = _read(self.path, file)
        expected = self.manifest.files.get(str(file))
        if expected is None:
            raise InvalidArtifactError(f"{file} is not listed in {MANIFEST_FILE}")
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
            raise InvalidArtifactError(f"{GOLDEN_CASES} is malformed") from error
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
        """
        for file in self.manifest.files:
            self.read(PurePosixPath(file))


def checksums(path: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative POSIX path, for a manifest's `files`."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): sha256(file.read_bytes()) for file in files}


def write_manifest(
    path: Path, manifest: Manifest, *, signing_key: Ed25519PrivateKey | None = None
) -> None:
    """Write the manifest and its checksum, in the format of `sha256sum --check`.

    Args:
        path: The version directory.
        manifest: The manifest.
        signing_key: The key to sign it with; None leaves it unsigned.
    """
    data = (manifest.model_dump_json(indent=2) + "\n").encode()
    (path / MANIFEST_FILE).write_bytes(data)
    (path / MANIFEST_CHECKSUM_FILE).write_bytes(_checksum_line(data))
    if signing_key is not None:
        (path / SIGNATURE_FILE).write_bytes(sign(data, signing_key))


def sha256(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _check_signed(path: Path, manifest_bytes: bytes, key: Ed25519PublicKey) -> None:
    if not (path / SIGNATURE_FILE).exists():
        raise InvalidArtifactError(
            "the artifact is not signed, and a signature is required: export it again with --sign"
        )
    check_signature(manifest_bytes, _read(path, SIGNATURE_FILE), key)


def _checksum_line(manifest_bytes: bytes) -> bytes:
    return f"{sha256(manifest_bytes)}  {MANIFEST_FILE}\n".encode()


def _read(path: Path, file: PurePosixPath) -> bytes:
    target = path / file
    try:
        is_inside = target.resolve().is_relative_to(path.resolve())
    # A loop of links, or a name with a zero byte.
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidArtifactError(f"{str(file)!r} is not a path: {error}") from error
    if not is_inside:
        raise InvalidArtifactError(f"{file} points outside the artifact")
    try:
        return _read_regular(target, MAX_MODEL_BYTES if file == MODEL_FILE else MAX_FILE_BYTES)
    except FileNotFoundError:
        raise InvalidArtifactError(f"{file} is missing in {path}") from None
    except OSError as error:
        raise InvalidArtifactError(f"{file} cannot be read: {error.strerror}") from error


def _read_regular(path: Path, max_bytes: int) -> bytes:
    # Without waiting: to open a pipe waits for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArtifactError(f"{path.name} is not a regular file")
        if status.st_size > max_bytes:
            raise InvalidArtifactError(
                f"{path.name} has {status.st_size} bytes, over the limit of {max_bytes}"
            )
        return file.read(max_bytes)
