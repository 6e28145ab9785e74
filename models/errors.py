"""Errors of the models room.

ModelsError
├── UnknownArchitectureError     a name under which no architecture is registered
├── ArchitectureOptionError      an option or input size that the architecture does not take
├── CheckpointError
│   ├── InvalidCheckpointError   a checkpoint that is missing, damaged or of another kind
│   ├── UnsafeCheckpointError    a pickle that would execute code
│   └── CheckpointMismatchError  weights that belong to another network
├── DataError                    a data set, class or file that cannot be used
└── TrainingError                settings that cannot be trained with, or training that failed
"""


class ModelsError(Exception):
    """Base of every error raised by this room."""


class UnknownArchitectureError(ModelsError):
    """No architecture is registered under a name."""


class ArchitectureOptionError(ModelsError):
    """An architecture does not take an option or an input size."""


class CheckpointError(ModelsError):
    """Base of everything that can be wrong with a checkpoint."""


class InvalidCheckpointError(CheckpointError):
    """A checkpoint is missing, damaged or of another kind."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint is a pickle that would execute code; it is never loaded."""


class CheckpointMismatchError(CheckpointError):
    """Weights do not fit the network that they are loaded into."""


class DataError(ModelsError):
    """A data set, one of its classes or one of its files cannot be used."""


class TrainingError(ModelsError):
    """Training cannot begin with these settings, cannot go on, or has failed."""
