"""Errors of the runtime room."""

from convd.artifact.errors import ArtifactError


class SessionError(ArtifactError):
    """An execution provider cannot run the network on this machine; the text says why."""
