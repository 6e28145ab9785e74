"""Errors of the models room.

ModelsError
├── UnknownArchitectureError     a name that no architecture is registered under
├── ArchitectureOptionError      an option or input size that the architecture does not support
├── CheckpointError
│   ├── InvalidCheckpointError   a checkpoint that is missing, damaged or of another kind
│   ├── UnsafeCheckpointError    a pickle that could execute code
│   └── CheckpointMismatchError  weights that belong to another network
├── LibraryError                 a library that is missing, or does not give its weights
├── OutputError                  a file of a training run that cannot be written
├── DataError                    an unusable data set, class or file
└── TrainingError                unusable settings, or training that failed
"""


class ModelsError(Exception):
    """Base of every error raised by this room."""


class UnknownArchitectureError(ModelsError):
    """No architecture is registered under a name."""


class ArchitectureOptionError(ModelsError):
    """An architecture does not support an option, its value or an input size."""


class CheckpointError(ModelsError):
    """Base of the errors about checkpoints."""


class InvalidCheckpointError(CheckpointError):
    """A checkpoint is missing, damaged or of another kind."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint is a pickle that could execute code; it is never loaded."""


class CheckpointMismatchError(CheckpointError):
    """Weights do not fit the network that they are loaded into."""


class LibraryError(ModelsError):
    """A library is missing, does not fit torch, or does not give what is asked of it."""


class OutputError(ModelsError):
    """A file or folder of a training run cannot be written."""


class DataError(ModelsError):
    """A data set, one of its classes or one of its files cannot be used."""


class TrainingError(ModelsError):
    """Training cannot start or resume with these settings, or has failed."""
