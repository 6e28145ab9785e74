"""What is published is what was given: flags, weights and training's own figures, read again.

The other proofs compare two ways to run one network; none of them would notice that the wrong
weights were loaded, or that a flag was lost on the way.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from convd.artifact.evidence import Accuracy
from convd.artifact.manifest import Manifest, NetworkOutput
from convd.export.errors import ParityError
from convd.export.graph.network_output import Activation
from convd.export.source import TrainedNetwork
from convd.models.weights import safe_globals

_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?)(?:[._]|$)")
_FAULT = "this is a fault of convd; nothing was published"
_ROUNDING = 2e-3
_TAKEN_FOR: dict[Activation, tuple[NetworkOutput, ...]] = {
    "softmax": ("logits",),
    "sigmoid": ("one_logit", "independent_logits"),
    "none": ("probabilities", "one_probability", "independent_probabilities"),
}
_ACCURACY_DIFFERENCE = 0.005
_FEW_PICTURES = 2


def check_flags(source: TrainedNetwork, manifest: Manifest) -> None:
    """Compare the manifest with the flags themselves.

    Raises:
        ParityError: A flag was lost or changed.
    """
    given, recipe, normalization = source.given, manifest.preprocessing, manifest.normalization
    channels = recipe.channels
    published: dict[str, tuple[object, object]] = {
        "labels": (given.labels, manifest.labels),
        "resize": (given.resize, recipe.resize),
        "crop": (given.crop, recipe.center_crop),
        "interpolation": (given.interpolation, recipe.interpolation),
        "channel-order": (given.channel_order, recipe.channel_order),
        "exif-orientation": (given.exif_orientation, recipe.apply_exif_orientation),
        "icc-profile": (given.icc_profile, recipe.apply_icc_profile),
        "background": (given.background, recipe.background),
        "grayscale": (given.grayscale, recipe.grayscale),
        "invert": (given.invert, recipe.invert),
        "crop-share": (given.crop_share, recipe.crop_share),
        "mean": (_each(given.mean, channels), normalization and normalization.mean),
        "std": (_each(given.std, channels), normalization and normalization.std),
    }
    for flag, (wanted, found) in published.items():
        if wanted is not None and wanted != found:
            raise ParityError(f"--{flag} gave {wanted}, but {found} would be published: {_FAULT}")


def check_weights(network: nn.Module, path: Path, key: str | None) -> None:
    """Compare each tensor of a network with those of the file that it was filled from.

    Args:
        network: The network.
        path: The file.
        key: The set of weights that was asked for; None stands for averaged ones where there are
            any.

    Raises:
        ParityError: A tensor of the network is not in the file.
    """
    saved = _flat(_read(path))
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    stored = network.state_dict().keys()
    for name, tensor in own.items():
        if name not in stored or name.endswith("num_batches_tracked"):
            continue
        named = _of_the_chosen_set(name, saved, key)
        # Old names of a layer are known to the layer alone: there the values have to do.
        if not any(_equal(tensor, each) for each in named or saved.values()):
            raise ParityError(f"the weights {name} are not those in {path}: {_FAULT}")


def _of_the_chosen_set(name: str, saved: Mapping[str, Tensor], key: str | None) -> list[Tensor]:
    """Tensors of a name; where several sets have it, of the set that was or would be asked for."""
    found = {
        other.removesuffix(name): tensor
        for other, tensor in saved.items()
        if f".{other}".endswith(f".{name}")
    }
    if key is not None:
        return [tensor for before, tensor in found.items() if f".{key}." in f".{before}"]
    averaged = [tensor for before, tensor in found.items() if _AVERAGED.search(before.lower())]
    return averaged or list(found.values())


def check_reading(
    output: NetworkOutput, outputs: NDArray[np.float32], activation: Activation
) -> None:
    """Compare what the outputs are taken for with the outputs and with --activation.

    Args:
        output: What they are taken for.
        outputs: What the network answers, `[pictures, outputs]`.
        activation: What the user, or the library that the network is of, says.

    Raises:
        ParityError: They cannot be that.
    """
    if activation != "auto" and output not in _TAKEN_FOR[activation]:
        raise ParityError(
            f"--activation {activation}, but the outputs are taken for {output}: {_FAULT}"
        )
    smallest, largest = float(outputs.min()), float(outputs.max())
    within_one = smallest >= -_ROUNDING and largest <= 1 + _ROUNDING
    total = outputs.astype(np.float64).sum(axis=1)
    exclusive = within_one and bool((np.abs(total - 1) < _ROUNDING).all()) and outputs.shape[1] > 1
    powers = np.exp(np.minimum(outputs.astype(np.float64), 1)).sum(axis=1)
    possible = {
        "probabilities": exclusive,
        "log_probabilities": largest <= _ROUNDING and bool((np.abs(powers - 1) < _ROUNDING).all()),
        "one_probability": within_one,
        "independent_probabilities": within_one,
        "logits": not exclusive and (not within_one or activation != "auto"),
        "one_logit": not within_one or activation != "auto",
        "independent_logits": not exclusive,
    }
    if not possible[output]:
        raise ParityError(
            f"the outputs are taken for {output}, but they lie between {smallest:.4g} and "
            f"{largest:.4g} in rows that sum to {total.min():.4g} to {total.max():.4g}: {_FAULT}"
        )


def check_recorded_accuracy(recorded: Accuracy | None, found: Accuracy | None) -> None:
    """Compare an artifact's accuracy with what training measured on the same pictures.

    Raises:
        ParityError: They differ by more than a few pictures.
    """
    if recorded is None or found is None or recorded.data != found.data:
        return
    difference = abs(recorded.top1 - found.top1)
    if difference > max(_ACCURACY_DIFFERENCE, _FEW_PICTURES / found.examples):
        raise ParityError(
            f"training measured an accuracy of {recorded.top1:.2%} on {recorded.data}, but the "
            f"artifact reaches {found.top1:.2%}; nothing was published"
        )


def _each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    return values * channels if values is not None and len(values) == 1 else values


def _read(path: Path) -> Any:  # noqa: ANN401
    if path.is_dir():
        return load_file(path / "model.safetensors")
    if path.suffix == ".safetensors":
        return load_file(path)
    with safe_globals():
        return torch.load(path, map_location="cpu", weights_only=True)


def _flat(saved: object) -> dict[str, Tensor]:
    return dict(_walk(saved, ""))


def _walk(saved: object, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(saved, Tensor):
        yield path, saved
    elif isinstance(saved, Mapping):
        for name, value in saved.items():
            yield from _walk(value, f"{path}.{name}" if path else str(name))


def _equal(own: Tensor, saved: Tensor) -> bool:
    return own.shape == saved.shape and torch.equal(own.detach(), saved.to(own.dtype))
