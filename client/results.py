"""What a server answers, as plain values."""

from dataclasses import dataclass
from typing import Literal

Task = Literal["multiclass", "multilabel"]
State = Literal["loading", "available", "draining", "unloaded", "failed"]


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """One class and its probability.

    Attributes:
        index: Index of the class in the network's output, from 0.
        label: Name of the class.
        probability: 0 to 1.
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The classes of one image.

    Attributes:
        model: Name of the model that answered.
        version: Version of the model that answered.
        task: `multiclass`: the classes exclude each other, and all probabilities sum to 1;
            `multilabel`: each probability is that of its own label.
        classes: Most probable first; as many as were asked for.
    """

    model: str
    version: int
    task: Task
    classes: tuple[ClassProbability, ...]

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.classes[0].label

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.classes[0].probability


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model in the server's repository.

    Attributes:
        name: The model.
        version: The version.
        state: Where it is in its life.
        reason: Why it failed, or what is wrong with its configuration; empty otherwise.
        provider: The execution provider that runs it; empty unless available.
        precision: The precision that it is computed in; empty unless available.
        classes: Number of classes; 0 unless it is loaded.
        accuracy: Top-1 accuracy on held-out data, 0 to 1; None where it was not measured.
        mean_average_precision: The same for independent labels, 0 to 1.
        golden_difference: Largest difference from a golden probability that the self-test saw.
        version_labels: Labels that point to it, such as `stable`, sorted.
        task: How its labels relate to each other; None unless it is loaded.
    """

    name: str
    version: int
    state: State
    reason: str
    provider: str
    precision: str
    classes: int
    accuracy: float | None
    mean_average_precision: float | None
    golden_difference: float | None
    version_labels: tuple[str, ...]
    task: Task | None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One version of a model in full.

    Attributes:
        model: The version.
        labels: Names of its classes, in the order of the network's outputs.
        input_shape: Height, width and channels of the network's input; empty unless it is loaded.
        manifest_json: The manifest of the artifact, as JSON; empty unless it is loaded.
    """

    model: ModelVersion
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    manifest_json: str
