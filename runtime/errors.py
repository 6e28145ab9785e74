"""Errors of the runtime room."""

from convd.artifact.errors import ArtifactError


class SessionError(ArtifactError):
    """An execution provider cannot run a network here; the text says why."""
