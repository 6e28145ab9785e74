"""Checkpoints on disk: a folder with weights (safetensors) and their description."""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from convd.artifact.frozen import FrozenModel
from convd.artifact.manifest import Accuracy, Normalization
from convd.artifact.preprocessing import Preprocessing
from convd.models.errors import InvalidCheckpointError
from convd.models.output import writing
from convd.models.registry import Options, create_model

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "checkpoint.json"


class CheckpointDescription(FrozenModel):
    """Everything but the weights.

    Attributes:
        schema_version: Version of this schema.
        architecture: The registered name of the network.
        options: Its options beyond the number of classes and channels.
        num_classes: Number of classes.
        in_channels: Channels of the pictures.
        labels: Class names in the order of the network's outputs.
        preprocessing: From a decoded picture to the prepared one.
        normalization: From the prepared picture to the network's input.
        data: Specification of its training data, as `load_dataset` takes it.
        classes: The classes that were kept; None if all were.
        split_seed: Seed of the split, which reproduces the held-out pictures.
        accuracy: Accuracy on the held-out pictures; None if it was not measured.
        training: Facts about the training run, such as epochs and learning rate.
    """

    schema_version: Literal[1] = 1
    architecture: str
    options: Options = Field(default_factory=dict)
    num_classes: PositiveInt
    in_channels: PositiveInt
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    normalization: Normalization
    data: str
    classes: tuple[str, ...] | None = None
    split_seed: int = 0
    accuracy: Accuracy | None = None
    training: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_agree(self) -> "CheckpointDescription":
        if len(self.labels) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes, but {len(self.labels)} labels")
        if self.preprocessing.channels != self.in_channels:
            raise ValueError(
                f"the network takes {self.in_channels} channels, but preprocessing gives "
                f"{self.preprocessing.channels}"
            )
        return self

    def build(self) -> nn.Module:
        """Build the described network with random weights."""
        return create_model(
            self.architecture,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            **self.options,
        )


class LoadedCheckpoint(NamedTuple):
    """A network as it was saved.

    Attributes:
        network: The network in eval mode, on the CPU.
        description: What is known of it.
    """

    network: nn.Module
    description: CheckpointDescription


def is_checkpoint(path: Path) -> bool:
    """Whether a folder looks like a checkpoint of convd."""
    return (path / DESCRIPTION_FILE).is_file()


def save_checkpoint(path: Path, network: nn.Module, description: CheckpointDescription) -> None:
    """Write a checkpoint; each file is replaced atomically.

    Args:
        path: The checkpoint's folder, created if it does not exist.
        network: The network, on any device.
        description: What is known of it.

    Raises:
        OutputError: A file cannot be written.
    """
    tensors = {name: each.cpu().contiguous() for name, each in network.state_dict().items()}
    with writing(path / WEIGHTS_FILE) as partial:
        save_file(tensors, partial)
    with writing(path / DESCRIPTION_FILE) as partial:
        partial.write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_checkpoint(path: Path) -> LoadedCheckpoint:
    """Read a checkpoint that `save_checkpoint` wrote.

    Raises:
        InvalidCheckpointError: It is missing, damaged, or its weights do not fit.
        UnknownArchitectureError: This version of convd does not have its architecture.
    """
    description = read_description(path)
    try:
        tensors = load_file(path / WEIGHTS_FILE)
    except FileNotFoundError:
        raise InvalidCheckpointError(
            f"{path} has no {WEIGHTS_FILE}: train again, or give the folder that has it"
        ) from None
    except (OSError, SafetensorError) as error:
        raise InvalidCheckpointError(
            f"{path / WEIGHTS_FILE} is damaged ({error}): copy it again or train again"
        ) from error
    network = description.build()
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InvalidCheckpointError(
            f"{path}: the weights do not fit the description: {error}"
        ) from error
    return LoadedCheckpoint(network.eval(), description)


def read_description(path: Path) -> CheckpointDescription:
    """Read a checkpoint's description, without its weights.

    Raises:
        InvalidCheckpointError: It is missing or damaged.
    """
    file = path / DESCRIPTION_FILE
    try:
        return CheckpointDescription.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise InvalidCheckpointError(
            f"{path} is not a checkpoint: it has no {DESCRIPTION_FILE}; give the folder that "
            "'convd train' wrote"
        ) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "description"
        raise InvalidCheckpointError(
            f"{file}: {where}: {problem['msg']}; it may have been "
            "written by another version of convd"
        ) from error
    except OSError as error:
        raise InvalidCheckpointError(f"{file} cannot be read: {error.strerror}") from error
