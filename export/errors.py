"""Errors of the export room.

ExportError
├── SourceError          what is to be exported cannot be read, or is not described well enough
├── ConversionError      the network cannot become a graph that is served
├── NetworkOutputError   what the network's outputs are cannot be told
├── BlindNetworkError    the network answers every picture alike
├── ParityError          the converted network gives other answers
├── AccuracyDropError    a smaller precision costs too much accuracy
└── CalibrationError     no temperature can be fitted
"""


class ExportError(Exception):
    """Base of every error raised by this room."""


class SourceError(ExportError):
    """What is to be exported cannot be read, or more has to be said about it."""


class ConversionError(ExportError):
    """The network cannot be converted into a graph that convd serves."""


class NetworkOutputError(ExportError):
    """What the network's outputs are cannot be told, or they are not a classifier's."""


class BlindNetworkError(ExportError):
    """The network gives nearly the same answer whatever it is shown."""


class ParityError(ExportError):
    """The converted network gives other answers than its source."""


class AccuracyDropError(ExportError):
    """A smaller precision costs more accuracy than is allowed."""


class CalibrationError(ExportError):
    """The data do not allow a temperature to be fitted."""
