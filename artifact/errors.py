"""Errors of the artifact room.

ArtifactError
├── InvalidImageError        bytes or pixels that cannot be classified
├── InvalidArtifactError     a version directory that is incomplete or altered
├── RepositoryError          an unusable repository, model name or version
├── StorageError             object storage that cannot be reached or used
├── OutsideError             a file or folder that leads out of the repository, or cannot be read
└── SigningKeyError          a file that is not a signing or verification key
"""


class ExplainedError(Exception):
    """An error with one text for clients, and another one for the log.

    Args:
        public: What is wrong and what to do. It may name files of the repository, but holds neither
            their content nor a parser's text, so clients may see it.
        detail: What only the log and the user of the command line may see.
    """

    def __init__(self, public: str, *, detail: str = "") -> None:
        super().__init__(f"{public}: {detail}" if detail else public)
        self.public = public
        self.detail = detail


class ArtifactError(ExplainedError):
    """Base of every error raised by this room."""


class InvalidImageError(ArtifactError):
    """The bytes or pixels cannot be classified; the text says why and what to send."""


class InvalidArtifactError(ArtifactError):
    """A version directory is incomplete, altered or of an unknown schema."""


class RepositoryError(ArtifactError):
    """A repository path cannot be read or written, or a model name is not valid."""


class StorageError(ArtifactError):
    """Object storage cannot be reached, or refuses a request."""


class OutsideError(ArtifactError):
    """A path leads out of the repository, or to something other than a regular file or folder."""


class SigningKeyError(ArtifactError):
    """A file is not a signing or verification key in PEM format."""


def public_reason(error: Exception) -> str:
    """What clients may be told of an error: nothing that a parser or a file has said."""
    if isinstance(error, ExplainedError):
        return error.public
    if isinstance(error, MemoryError):
        return "there is too little memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"unexpected {type(error).__name__}: the server's log has the details"
