"""Errors of the artifact room.

ArtifactError
├── InvalidImageError        bytes or pixels that cannot be classified
├── InvalidArtifactError     a version directory that is incomplete or altered
├── RepositoryError          an unusable repository, model name or version
└── SigningKeyError          a file that is not a signing or verification key
"""


class ArtifactError(Exception):
    """Base of every error raised by this room."""


class InvalidImageError(ArtifactError):
    """The bytes or pixels cannot be classified; the text says why and what to send."""


class InvalidArtifactError(ArtifactError):
    """A version directory is incomplete, altered or of an unknown schema."""


class RepositoryError(ArtifactError):
    """A repository path cannot be read or written, or a model name is not valid."""


class SigningKeyError(ArtifactError):
    """A file is not an Ed25519 key in PEM format."""
