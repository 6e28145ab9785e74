"""What a network must keep to before it is converted; each refusal says what would help."""

import torch
from torch import Tensor, nn

from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import ConversionError
from convd.export.graph import ServingGraph

_MODE_DEPENDENT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
_SUM_TO_ONE = 1e-4
_REPEATED_DIFFERENCE = 1e-3
"""Threads may add in another order from run to run; dropout changes far more than that."""


def check_network(graph: ServingGraph, preprocessing: Preprocessing, classes: int) -> None:
    """Refuse a network that would serve other answers than it should.

    Args:
        graph: The graph around the network.
        preprocessing: Gives the shape of its input.
        classes: Number of labels.

    Raises:
        ConversionError: The network is in training mode, has weights that are not finite, fails on
            pictures of this shape, freezes the batch size, gives random answers, lets the pictures
            of a batch influence each other, or does not answer one row of classes for each picture.
    """
    _check_eval_mode(graph.network)
    _check_weights(graph.network)
    generator = torch.Generator().manual_seed(0)
    shape = (3, *preprocessing.output_shape)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        logits = _answer(graph, images)
        _check_rows(logits, len(images), classes)
        _check_finite(logits)
        _check_logits(logits)
        _check_repeatable(logits, _answer(graph, images))
        alone = _answer_of_another_size(graph, images[:1], classes)
        _check_independent(logits[:1], alone)


def _check_eval_mode(network: nn.Module) -> None:
    training = [(name, module) for name, module in network.named_modules() if module.training]
    if not training:
        return
    dependent = [one for one in training if isinstance(one[1], _MODE_DEPENDENT)]
    name, module = (dependent or training)[0]
    raise ConversionError(
        f"{name or 'the network'} ({type(module).__name__}) is in training mode, so its answers "
        "would be random or depend on the rest of the batch: call network.eval() before it is "
        "exported"
    )


def _check_weights(network: nn.Module) -> None:
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ConversionError(
                f"the weights {name} hold NaN or infinity: they are damaged; export an earlier "
                "checkpoint"
            )


def _answer(graph: ServingGraph, images: Tensor) -> Tensor:
    shape = list(images.shape[1:])
    try:
        output = graph.network(graph.normalize(images))
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise ConversionError(
            f"the network fails on pictures of {shape}: {_first_line(error)}; do --resize, --crop "
            "and --channel-order give what it was trained on?"
        ) from error
    if not isinstance(output, Tensor):
        raise ConversionError(
            f"the network gives a {type(output).__name__}: it must return its logits alone, one "
            "tensor; give a function that wraps it"
        )
    return output.float()


def _answer_of_another_size(graph: ServingGraph, images: Tensor, classes: int) -> Tensor:
    """Answer a batch of another size than the one that has just succeeded."""
    try:
        logits = graph(images).logits
        _check_rows(logits, len(images), classes)
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise ConversionError(
            "the network answers a batch of 3 but not of 1, so its batch size is frozen: "
            f"{_first_line(error)}; write x.flatten(1) instead of x.view(3, -1) or x.squeeze()"
        ) from error
    assert isinstance(logits, Tensor)  # noqa: S101
    return logits


def _check_rows(logits: Tensor, images: int, classes: int) -> None:
    if logits.ndim != 2 or len(logits) != images:
        raise ConversionError(
            f"the network answers {list(logits.shape)} to {images} pictures, not [{images}, "
            f"{classes}]: it must give one row of {classes} logits for each; end it with "
            "x.flatten(1) and a linear layer"
        )
    if logits.shape[1] != classes:
        raise ConversionError(
            f"the network has {logits.shape[1]} classes, but there are {classes} labels: give "
            "--labels with one name for each output, in their order"
        )


def _check_finite(logits: Tensor) -> None:
    if not torch.isfinite(logits).all():
        raise ConversionError(
            "the network answers NaN or infinity: its weights or its --mean and --std are wrong; "
            "export an earlier checkpoint"
        )


def _check_logits(logits: Tensor) -> None:
    if logits.shape[1] == 1:
        raise ConversionError(
            "the network has one output, and the softmax of one number is always 1: give it one "
            "output for each of its two classes, such as torch.cat([-x, x], dim=1) / 2"
        )
    if (logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < _SUM_TO_ONE).all():
        raise ConversionError(
            "the network gives probabilities, so softmax would be taken twice: leave its last "
            "softmax out; the exported graph has one"
        )


def _check_repeatable(first: Tensor, second: Tensor) -> None:
    if _relative_difference(first, second) > _REPEATED_DIFFERENCE:
        raise ConversionError(
            "the network answers the same pictures differently each time: a training-only layer is "
            "left on; write F.dropout(x, p, training=self.training) instead of F.dropout(x, p)"
        )


def _check_independent(together: Tensor, alone: Tensor) -> None:
    if _relative_difference(together, alone) > _REPEATED_DIFFERENCE:
        raise ConversionError(
            "the answer to a picture depends on the others in its batch: batch normalisation uses "
            "the batch's statistics; train with track_running_stats=True"
        )


def _relative_difference(first: Tensor, second: Tensor) -> float:
    scale = first.abs().max().clamp(min=1e-6)
    return float((first - second).abs().max() / scale)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
