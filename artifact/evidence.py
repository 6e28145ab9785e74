"""Measurements made before publication, as the manifest records them."""

import math
from typing import Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from convd.artifact.frozen import FrozenModel
from convd.artifact.precision import Precision


class Accuracy(FrozenModel):
    """How often the network is right on data that it was not trained on.

    Attributes:
        top1: Share of examples whose most probable class is the true one, 0 to 1; multilabel: is
            one of the true ones, of the examples that have any.
        mean_average_precision: Mean over the labels of the area under the curve of precision over
            recall, 0 to 1; None for a multiclass network.
        examples: Number of examples.
        data: Which data they are.
    """

    top1: float = Field(ge=0, le=1)
    mean_average_precision: float | None = Field(default=None, ge=0, le=1)
    examples: PositiveInt
    data: str

    @property
    def quality(self) -> float:
        """The figure that counts for the task: mean average precision, or top-1 accuracy."""
        precision = self.mean_average_precision
        return self.top1 if precision is None else precision

    @property
    def right(self) -> int:
        """Number of examples that are right; of a multiclass network."""
        return round(self.top1 * self.examples)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the top-1 accuracy (Wilson, 1927): what so few examples can tell."""
        share, count, z = self.top1, self.examples, 1.96
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
        half = z * spread / (1 + z**2 / count)
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def __str__(self) -> str:
        precision = self.mean_average_precision
        if precision is None:
            return f"accuracy {self.top1:.2%}"
        return f"mean average precision {precision:.4f}"


class ParityReport(FrozenModel):
    """How far ONNX Runtime's answers were from the source network's, before publication.

    Attributes:
        reference: What the answers were compared with, such as `PyTorch 2.13.0`.
        provider: The execution provider that gave them.
        precision: The precision in which it computed.
        batch_sizes: The batch sizes that were run.
        images: Number of images over all batches.
        max_logit_difference: Largest absolute difference of a logit.
        max_probability_difference: Largest absolute difference of a probability.
        probability_limit: Largest difference of a probability with which this provider may serve
            the network; None where accuracy decides.
        top1_agreement: Share of images with the same most probable class, 0 to 1.
        max_feature_difference: Largest difference of a feature, relative to the largest feature;
            None where the graph has none.
    """

    reference: str
    provider: str
    precision: Precision
    batch_sizes: tuple[PositiveInt, ...]
    images: PositiveInt
    max_logit_difference: NonNegativeFloat
    max_probability_difference: NonNegativeFloat
    probability_limit: NonNegativeFloat | None
    top1_agreement: float = Field(ge=0, le=1)
    max_feature_difference: NonNegativeFloat | None = None

    @property
    def within_limit(self) -> bool:
        """Whether the answers are close enough to serve."""
        limit = self.probability_limit
        return limit is None or self.max_probability_difference <= limit


class FeatureOutputs(FrozenModel):
    """The optional outputs of a graph.

    Attributes:
        length: Number of features.
        map_shape: Maps, height and width of one picture's `activation_maps`; None where the last
            layer does not take the means of feature maps.
    """

    length: PositiveInt
    map_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None


class Agreement(FrozenModel):
    """How the source network and the artifact predicted the same pictures, each by its own path.

    Attributes:
        examples: Number of pictures; every prediction was the same, or a tie.
        differing_by_rounding: Pictures whose two best classes were too close for rounding.
        share_right: Share of them that the source network itself got right, 0 to 1; multilabel: in
            every label.
    """

    examples: PositiveInt
    differing_by_rounding: NonNegativeInt = 0
    share_right: float = Field(ge=0, le=1)


class CalibrationScores(FrozenModel):
    """How well probabilities match observed frequencies.

    Attributes:
        negative_log_likelihood: Mean over the examples, in nats.
        expected_calibration_error: Mean distance between confidence and accuracy over equal bins
            of confidence, 0 to 1 (Naeini et al., 2015).
    """

    negative_log_likelihood: NonNegativeFloat
    expected_calibration_error: float = Field(ge=0, le=1)


class CalibrationReport(FrozenModel):
    """The effect of a temperature on the probabilities (Guo et al., 2017).

    Attributes:
        data: Which data the temperature was fitted on.
        examples: Number of them.
        before: With a temperature of 1.
        after: With the temperature that was fitted.
        top1: Accuracy, which a temperature does not change.
    """

    data: str
    examples: PositiveInt
    before: CalibrationScores
    after: CalibrationScores
    top1: float = Field(ge=0, le=1)


class QuantizationReport(FrozenModel):
    """The cost of a smaller precision.

    Attributes:
        data: Which pictures the ranges of the activations were measured on; None where none were.
        examples: Number of them.
        range_method: How the ranges were chosen; None where they were not, or by an export that
            knew one way only.
        signal_to_noise_db: Power of the float32 network's logits over that of the difference, in
            decibels, for each method that was tried.
        top1_before: Accuracy of the float32 network, 0 to 1; None where it was not measured.
        top1_after: Accuracy of what is published, on the same examples.
        max_accuracy_drop: The largest drop that publication allowed, 0 to 1.
    """

    data: str | None = None
    examples: NonNegativeInt = 0
    range_method: str | None = None
    signal_to_noise_db: dict[str, float] = Field(default_factory=dict)
    top1_before: float | None = Field(default=None, ge=0, le=1)
    top1_after: float | None = Field(default=None, ge=0, le=1)
    max_accuracy_drop: float = Field(ge=0, le=1)


class Baseline(FrozenModel):
    """How the network answers its evaluation data; drift in serving is measured against it.

    Attributes:
        data: Which pictures.
        examples: Number of them.
        predicted_shares: Per label, in label order, the share of the pictures for which it is
            predicted. Multiclass: it is the most probable one; the shares sum to 1. Multilabel: its
            probability is at least 0.5; each share lies between 0 and 1.
        confidence_shares: Share of the pictures for which the probability of what is predicted
            falls into each of equally wide bins from 0 to 1; the last one includes 1. Multilabel:
            of all labels together. They sum to 1.
    """

    data: str
    examples: PositiveInt
    predicted_shares: tuple[float, ...] = Field(min_length=1)
    confidence_shares: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_are_shares(self) -> Self:
        for shares in (self.predicted_shares, self.confidence_shares):
            if min(shares) < 0 or max(shares) > 1:
                raise ValueError("shares must lie between 0 and 1")
        if abs(sum(self.confidence_shares) - 1) > 1e-6:
            raise ValueError("the shares of confidence must sum to 1")
        return self
