"""Errors of the runtime room."""

from convd.artifact.errors import ArtifactError, InvalidArtifactError


class SessionError(ArtifactError):
    """An execution provider cannot run the network on this machine; the text says why."""


class OutsideDataError(InvalidArtifactError):
    """A network would read data from files besides its own."""
