"""Errors of the export room.

ExportError
├── ConversionError    the network cannot become a graph that is served
└── ParityError        the converted network gives other answers
"""


class ExportError(Exception):
    """Base of every error raised by this room."""


class ConversionError(ExportError):
    """The network cannot be converted into a graph that convd serves."""


class ParityError(ExportError):
    """The converted network gives other answers than its source."""
