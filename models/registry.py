"""The architectures by name."""

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from convd.models.errors import ArchitectureOptionError, UnknownArchitectureError
from convd.models.stages import StagedNetwork

Builder = Callable[..., StagedNetwork]
"""Builds a network from the keywords `num_classes`, `in_channels` and its own options."""

Weights = dict[str, Tensor]
"""Tensors by the names of parameters and buffers."""

Options = dict[str, str | int | float | bool]
"""Options of an architecture beyond the number of classes and channels."""


def _as_they_are(weights: Weights) -> Weights:
    return weights


def _no_options(weights: Weights) -> Options:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class Architecture:
    """A registered network and its facts.

    Attributes:
        name: The registered name.
        build: Builds the network.
        input_size: Height and width of its published input, in pixels.
        minimum_input_size: Smallest height and width that leave a feature map to classify.
        maximum_input_size: Largest height and width; None if any larger one works.
        learning_rate: Peak learning rate that trains it well with batches of 64.
        aliases: Other names that are accepted.
        rename_weights: Translates the names of weights from older versions or other libraries to
            those of this network.
        options_of_weights: Derives, from the names of renamed weights, the options that they were
            trained with.
    """

    name: str
    build: Builder
    input_size: int
    minimum_input_size: int
    maximum_input_size: int | None
    learning_rate: float
    aliases: tuple[str, ...] = ()
    rename_weights: Callable[[Weights], Weights] = _as_they_are
    options_of_weights: Callable[[Weights], Options] = _no_options

    @property
    def options(self) -> list[str]:
        """Names of the options beyond `num_classes` and `in_channels`."""
        parameters = inspect.signature(self.build).parameters
        return [name for name in parameters if name not in ("num_classes", "in_channels")]

    def check_input_size(self, size: int) -> None:
        """Refuse an unsupported height and width.

        Raises:
            ArchitectureOptionError: It is too small or too large.
        """
        if size < self.minimum_input_size:
            raise ArchitectureOptionError(
                f"{self.name} needs pictures of at least {self.minimum_input_size} x "
                f"{self.minimum_input_size} pixels, not {size} x {size}"
            )
        if self.maximum_input_size is not None and size > self.maximum_input_size:
            raise ArchitectureOptionError(
                f"{self.name} takes pictures of at most {self.maximum_input_size} x "
                f"{self.maximum_input_size} pixels, not {size} x {size}"
            )


_ARCHITECTURES: dict[str, Architecture] = {}
_ALIASES: dict[str, str] = {}


def register_model(
    name: str,
    *,
    input_size: int,
    minimum_input_size: int,
    maximum_input_size: int | None = None,
    learning_rate: float,
    aliases: tuple[str, ...] = (),
    rename_weights: Callable[[Weights], Weights] = _as_they_are,
    options_of_weights: Callable[[Weights], Options] = _no_options,
) -> Callable[[Builder], Builder]:
    """Register the decorated builder under a name; see `Architecture` for the arguments.

    Raises:
        ValueError: The name or an alias is taken.
    """

    def register(build: Builder) -> Builder:
        for each in (name, *aliases):
            if each in _ARCHITECTURES or each in _ALIASES:
                raise ValueError(f"an architecture named {each!r} is already registered")
        _ARCHITECTURES[name] = Architecture(
            name,
            build,
            input_size,
            minimum_input_size,
            maximum_input_size,
            learning_rate,
            aliases,
            rename_weights,
            options_of_weights,
        )
        _ALIASES.update(dict.fromkeys(aliases, name))
        return build

    return register


def list_models() -> list[str]:
    """Names of every registered architecture, sorted."""
    return sorted(_ARCHITECTURES)


def find_architecture(name: str) -> Architecture:
    """Look an architecture up by its name or an alias.

    Raises:
        UnknownArchitectureError: There is none; the text names the closest ones.
    """
    name = name.lower()
    architecture = _ARCHITECTURES.get(_ALIASES.get(name, name))
    if architecture is None:
        near = difflib.get_close_matches(name, [*_ARCHITECTURES, *_ALIASES], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {_known()}"
        raise UnknownArchitectureError(f"there is no architecture {name!r}: {hint}")
    return architecture


def create_model(
    name: str, *, num_classes: int = 1000, in_channels: int = 3, **options: object
) -> StagedNetwork:
    """Build a network with random weights.

    In eval mode every network takes float32 `[batch, in_channels, height, width]` and returns
    logits only, float32 `[batch, num_classes]`. Its `intermediates` returns every named stage.

    Args:
        name: A name of `list_models`, or an alias.
        num_classes: Number of classes.
        in_channels: Channels of the pictures: 1 for grayscale, 3 for colour.
        options: Options of this architecture, such as `pooling` of `lenet5`.

    Raises:
        UnknownArchitectureError: No architecture has this name.
        ArchitectureOptionError: The architecture does not take one of the options or its value.
    """
    architecture = find_architecture(name)
    unknown = sorted(set(options) - set(architecture.options))
    if unknown:
        known = ", ".join(architecture.options) or "no options"
        raise ArchitectureOptionError(
            f"{architecture.name} has no option {unknown[0]!r}: it takes {known}"
        )
    if num_classes < 1 or in_channels < 1:
        raise ArchitectureOptionError(
            f"got {num_classes} classes and {in_channels} channels: both must be at least 1"
        )
    try:
        return architecture.build(num_classes=num_classes, in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:
        raise ArchitectureOptionError(f"{architecture.name} cannot be built: {error}") from error


def _known() -> str:
    return ", ".join(list_models())
