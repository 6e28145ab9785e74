"""The manifest: everything that serving needs to know about a network, and the evidence for it."""

from collections import Counter
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from convd.artifact.evidence import (
    Accuracy,
    Agreement,
    Baseline,
    CalibrationReport,
    FeatureOutputs,
    ParityReport,
    QuantizationReport,
)
from convd.artifact.frozen import FrozenModel
from convd.artifact.precision import Precision
from convd.artifact.preprocessing import Preprocessing

__all__ = [
    "Accuracy",
    "Fact",
    "Manifest",
    "NetworkOutput",
    "Normalization",
    "Provenance",
    "Task",
]

Task = Literal["multiclass", "multilabel"]
"""`multiclass`: classes exclude each other, and probabilities are a softmax that sums to 1.
`multilabel`: labels are independent, and each probability is the sigmoid of its own logit."""

NetworkOutput = Literal[
    "logits",
    "probabilities",
    "log_probabilities",
    "one_logit",
    "one_probability",
    "independent_logits",
    "independent_probabilities",
]
"""What the source network itself gives, before the graph makes logits and probabilities of it."""


class Fact(FrozenModel):
    """Something that the export took for granted.

    Attributes:
        subject: What it is about, such as `mean`.
        value: What was taken.
        origin: Where it was taken from: a flag, the file, the weights' metadata, a default.
    """

    subject: str
    value: str
    origin: str


class Normalization(FrozenModel):
    """What the graph does to pixels scaled to 0..1: `(pixel - mean) / std`, per channel.

    Recorded for readers; the graph itself normalises.
    """

    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]


class Provenance(FrozenModel):
    """Where the network comes from.

    Attributes:
        source: What was exported, such as a checkpoint's path or `torchvision:resnet50`.
        architecture: The registered name of the network, where it has one.
        parameters: Number of trained parameters.
        training: Facts about the training run, such as data, seed and epochs.
        facts: What was taken for granted, and from where.
        tools: Versions of convd and the libraries that made the artifact.
    """

    source: str
    architecture: str | None = None
    parameters: NonNegativeInt | None = None
    training: dict[str, str | int | float | bool] = Field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    tools: dict[str, str] = Field(default_factory=dict)


class Manifest(FrozenModel):
    """The contract of one artifact.

    Attributes:
        schema_version: Version of this schema.
        created_at: When the artifact was made, UTC.
        task: Whether the labels exclude each other or are independent.
        network_output: What the source network itself gives.
        labels: Class names in the order of the network's outputs.
        preprocessing: From a decoded picture to the graph's input.
        normalization: What the graph does to the pixels; None if that is not known.
        precision: Precision of the weights.
        temperature: What the logits are divided by before softmax or sigmoid; 1 changes nothing.
        opset: ONNX operator set.
        provenance: Where the network comes from.
        accuracy: Measured accuracy; None if it was not measured.
        agreement: How the source network predicted the evaluation data; None if there were none.
        probability_change: Largest change of a probability between black, white, random and real
            pictures: how much the network looks at them. None if it was not measured.
        parity: The proof of the conversion, for each provider of the exporting machine.
        calibration: The effect of the temperature; None if none was fitted.
        quantization: The cost of a smaller precision; None for float32.
        features: What the graph gives on request; None where it gives nothing else.
        baseline: How it answers its evaluation data; None if there were none.
        golden_tolerances: Largest absolute difference of a golden probability, by the name of an
            execution provider and the precision in which it computes.
        files: SHA-256 of every other file of the artifact, by relative path.
    """

    schema_version: Literal[1] = 1
    created_at: datetime
    task: Task = "multiclass"
    network_output: NetworkOutput = "logits"
    labels: tuple[str, ...] = Field(min_length=1)
    preprocessing: Preprocessing
    normalization: Normalization | None = None
    precision: Precision = "float32"
    temperature: PositiveFloat = 1.0
    opset: PositiveInt
    provenance: Provenance
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    probability_change: float | None = Field(default=None, ge=0, le=1)
    parity: tuple[ParityReport, ...] = Field(min_length=1)
    calibration: CalibrationReport | None = None
    quantization: QuantizationReport | None = None
    features: FeatureOutputs | None = None
    baseline: Baseline | None = None
    golden_tolerances: dict[str, dict[Precision, PositiveFloat]]
    files: dict[str, str]

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Self:
        repeated = sorted(label for label, count in Counter(self.labels).items() if count > 1)
        if repeated:
            raise ValueError(f"labels must be distinct; repeated: {', '.join(repeated[:5])}")
        return self

    @model_validator(mode="after")
    def _baseline_has_every_class(self) -> Self:
        shares = self.baseline.predicted_shares if self.baseline else self.labels
        if len(shares) != len(self.labels):
            raise ValueError(f"the baseline has {len(shares)} classes, not {len(self.labels)}")
        return self

    @model_validator(mode="after")
    def _exclusive_classes_share_the_baseline(self) -> Self:
        shares = self.baseline.predicted_shares if self.baseline else (1.0,)
        if self.task == "multiclass" and abs(sum(shares) - 1) > 1e-6:
            raise ValueError("the baseline's shares of the classes must sum to 1")
        return self

    def golden_tolerance(self, provider: str, precision: Precision) -> float | None:
        """The largest difference of a golden probability that the artifact promises.

        Args:
            provider: ONNX Runtime's name of an execution provider.
            precision: The precision in which it computes this network.

        Returns:
            The difference, or None if nothing is promised.
        """
        return self.golden_tolerances.get(provider, {}).get(precision)
