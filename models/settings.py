"""The settings that determine the result of a training run."""

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from convd.artifact.frozen import FrozenModel
from convd.models.losses import LossName
from convd.models.registry import Options


class TrainingSettings(FrozenModel):
    """The settings of a run. Equal settings give equal weights on the same machine.

    Attributes:
        architecture: A registered name.
        options: Options of the architecture.
        data: Specification of the data set.
        classes: Labels of the classes to keep; None keeps all.
        input_size: Height and width of the network's input; None takes the architecture's.
        channels: 1 or 3; None takes the data set's.
        epochs: Epochs, of one or more passes over the training pictures.
        batch_size: Pictures per step; a batch of one would break batch normalisation. None takes
            `suitable_batch_size`.
        passes_per_epoch: How often each training picture is seen in an epoch; None takes
            `suitable_passes`.
        learning_rate: Peak learning rate; None takes the architecture's, in proportion to the batch
            size, and half of that with `init`.
        momentum: Of stochastic gradient descent.
        weight_decay: Of weights, but not of biases and normalisation layers.
        warmup_epochs: Epochs during which the learning rate rises; may be a fraction.
        loss: The loss to minimise.
        label_smoothing: Share of the target's probability that is spread over all classes; None
            takes 0.1 with cross-entropy (Szegedy et al., "Rethinking the Inception Architecture",
            2015), 0 with squared error.
        augment: Whether training pictures are changed at random.
        seed: Seed of the split, the initial weights, the order and every random change.
        patience: Stop after this many epochs without better accuracy on a validation tenth of the
            training pictures, and keep the best weights; None trains all epochs.
        init: Weights to start from, except for their last layer, as `find_pretrained` takes them;
            None starts from random weights.
        freeze_backbone: Whether only the last layer is trained.
        strict_data: Whether a broken file is an error; otherwise it is skipped.
        device: `auto` takes a GPU if there is one.
        mixed_precision: Whether convolutions compute in 16 bits; None does so on a GPU.
    """

    architecture: str
    options: Options = Field(default_factory=dict)
    data: str
    classes: tuple[str, ...] | None = None
    input_size: PositiveInt | None = None
    channels: Literal[1, 3] | None = None
    epochs: PositiveInt = 30
    batch_size: int | None = Field(default=None, ge=2)
    passes_per_epoch: PositiveInt | None = None
    learning_rate: PositiveFloat | None = None
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 5e-4
    warmup_epochs: NonNegativeFloat = 1.0
    loss: LossName = "cross-entropy"
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    augment: bool = True
    seed: NonNegativeInt = 0
    patience: PositiveInt | None = None
    init: str | None = None
    freeze_backbone: bool = False
    strict_data: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: bool | None = None

    @model_validator(mode="after")
    def _a_random_backbone_is_not_frozen(self) -> Self:
        if self.freeze_backbone and self.init is None:
            raise ValueError("freezing a random backbone makes no sense: add --init WEIGHTS")
        return self

    @property
    def effective_label_smoothing(self) -> float:
        """The label smoothing that is used."""
        if self.label_smoothing is not None:
            return self.label_smoothing
        return 0.1 if self.loss == "cross-entropy" else 0.0
