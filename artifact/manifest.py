"""The manifest: everything that serving has to know about a network, and the evidence for it."""

from datetime import datetime
from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from artifact.frozen import FrozenModel
from artifact.preprocessing import Preprocessing

Precision = Literal["float32", "float16", "bfloat16", "int8"]


class Normalization(FrozenModel):
    """What the graph does to pixels scaled to 0..1: `(pixel - mean) / std`, per channel.

    Stored for people to read; the graph itself does it.
    """

    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]


class Provenance(FrozenModel):
    """Where the network comes from.

    Attributes:
        source: What was exported, such as a checkpoint's path or `torchvision:resnet50`.
        architecture: The registered name of the network, where it has one.
        parameters: Number of trained parameters.
        training: Free facts from training, such as data, seed and epochs.
        tools: Versions of convd and the libraries that made the artifact.
    """

    source: str
    architecture: str | None = None
    parameters: NonNegativeInt | None = None
    training: dict[str, str | int | float | bool] = Field(default_factory=dict)
    tools: dict[str, str] = Field(default_factory=dict)


class Accuracy(FrozenModel):
    """How often the network is right on data it was not trained on.

    Attributes:
        top1: Share of examples whose most probable class is the true one, 0 to 1.
        examples: Number of examples.
        data: Which data they are.
    """

    top1: float = Field(ge=0, le=1)
    examples: PositiveInt
    data: str


class ParityReport(FrozenModel):
    """How far ONNX Runtime's answers were from the source network's, before publication.

    Attributes:
        reference: What the answers were compared with, such as `PyTorch 2.13.0`.
        provider: The execution provider that gave them.
        batch_sizes: The batch sizes that were run.
        images: Number of images over all batches.
        max_logit_difference: Largest absolute difference of a logit.
        max_probability_difference: Largest absolute difference of a probability.
        top1_agreement: Share of images with the same most probable class, 0 to 1.
    """

    reference: str
    provider: str
    batch_sizes: tuple[PositiveInt, ...]
    images: PositiveInt
    max_logit_difference: NonNegativeFloat
    max_probability_difference: NonNegativeFloat
    top1_agreement: float = Field(ge=0, le=1)


class Manifest(FrozenModel):
    """The contract of one artifact.

    Attributes:
        schema_version: Version of this schema.
        created_at: When the artifact was made, UTC.
        labels: Class names in the order of the network's outputs.
        preprocessing: From a decoded picture to the graph's input.
        normalization: What the graph does to the pixels; None where that is not known.
        precision: Precision of the weights.
        temperature: What the logits are divided by before softmax; 1 leaves them as they are.
        opset: ONNX operator set.
        provenance: Where the network comes from.
        accuracy: How good it is; None where that was not measured.
        parity: How well the conversion was proved.
        golden_tolerances: Largest absolute difference of a golden probability, per precision in
            which an execution provider computes.
        files: SHA-256 of every other file of the artifact, by relative path.
    """

    schema_version: Literal[1] = 1
    created_at: datetime
    labels: tuple[str, ...] = Field(min_length=1)
    preprocessing: Preprocessing
    normalization: Normalization | None = None
    precision: Precision = "float32"
    temperature: PositiveFloat = 1.0
    opset: PositiveInt
    provenance: Provenance
    accuracy: Accuracy | None = None
    parity: ParityReport
    golden_tolerances: dict[Precision, PositiveFloat]
    files: dict[str, str]

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        repeated = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if repeated:
            raise ValueError(f"labels must be distinct; repeated: {', '.join(repeated[:5])}")
        return self
