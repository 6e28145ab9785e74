"""Errors of the artifact room.

ArtifactError
├── InvalidImageError        bytes or pixels that are no usable image
├── InvalidArtifactError     a version directory that does not keep its promise
├── RepositoryError          a repository, model name or version that cannot be used
└── SigningKeyError          a file that is no key to sign or verify with
"""


class ArtifactError(Exception):
    """Base of every error raised by this room."""


class InvalidImageError(ArtifactError):
    """The bytes or pixels are no image that can be classified."""


class InvalidArtifactError(ArtifactError):
    """A version directory is incomplete, altered or of an unknown schema."""


class RepositoryError(ArtifactError):
    """A repository path, model name or version cannot be used."""


class SigningKeyError(ArtifactError):
    """A file is no key that can sign or verify."""
