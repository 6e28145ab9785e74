"""What a network must keep to before it is converted; each refusal says what would help."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convd.export.errors import ConversionError
from convd.export.proof.failures import explain_failure
from convd.export.proof.pictures import PicturePool
from convd.export.proof.reference import Images, Reference, as_rows
from convd.export.proof.watching import autocast_line, reshaping_line

_MODE_DEPENDENT = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
_MIXED = 7
_REPEATED_DIFFERENCE = 1e-3
"""Threads may add in another order from run to run; dropout changes far more than that."""


def check_modules(network: nn.Module) -> None:
    """Refuse a network in training mode, or with weights that are not finite.

    Raises:
        ConversionError: It is; the text names the layer.
    """
    training = [(name, module) for name, module in network.named_modules() if module.training]
    if training:
        dependent = [one for one in training if isinstance(one[1], _MODE_DEPENDENT)]
        name, module = (dependent or training)[0]
        raise ConversionError(
            f"{name or 'the network'} ({type(module).__name__}) is in training mode, so its "
            "answers would be random or depend on the rest of the batch: call network.eval() "
            "before it is exported"
        )
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ConversionError(
                f"the weights {name} hold NaN or infinity: they are damaged; export an earlier "
                "checkpoint"
            )


def answer_alone(reference: Reference, pool: PicturePool, labels: int) -> NDArray[np.float32]:
    """Ask a network about each picture alone, and check that company changes nothing.

    Args:
        reference: The network.
        pool: The pictures.
        labels: Number of labels, for the texts.

    Returns:
        Its outputs, float32 `[pictures, outputs]`.

    Raises:
        ConversionError: The network fails on pictures of this shape, freezes the batch size, gives
            random answers, lets the pictures of a batch influence each other, or does not answer
            one row for each picture.
    """
    line = autocast_line(lambda: reference.outputs(pool.images[:1]))
    if line is not None:
        raise ConversionError(
            f"the network computes in a smaller precision under torch.autocast at {line}: leave it "
            "out of forward; --precision float16 makes a smaller artifact"
        )
    mixed = np.random.default_rng(1).choice(len(pool.images), _MIXED, replace=False)
    together = _answer(reference, pool.images[mixed], labels)
    again = _answer(reference, pool.images[mixed], labels)
    if _relative_difference(together, again) > _REPEATED_DIFFERENCE:
        raise ConversionError(
            "the network answers the same pictures differently each time: a training-only layer is "
            "left on; write F.dropout(x, p, training=self.training) instead of F.dropout(x, p)"
        )
    alone = np.concatenate([_answer(reference, image[np.newaxis], labels) for image in pool.images])
    reversed_order = _answer(reference, pool.images[mixed[::-1]], labels)[::-1]
    for answers in (together, reversed_order):
        if _relative_difference(answers, alone[mixed]) > _REPEATED_DIFFERENCE:
            raise ConversionError(
                "the answer to a picture depends on the others in its batch: batch normalisation "
                "uses the batch's statistics, or a softmax or mean is taken over the batch; train "
                "with track_running_stats=True, and write dim=1"
            )
    return alone


def _answer(reference: Reference, images: Images, labels: int) -> NDArray[np.float32]:
    try:
        outputs = reference.outputs(images)
    except ConversionError:
        raise
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise explain_failure(reference, images, error) from error
    if outputs.ndim == 1 and len(images) == 1 and labels > 1 and len(outputs) == labels:
        line = reshaping_line(lambda: reference.outputs(images), 1)
        where = f" at {line}" if line else ""
        raise ConversionError(
            f"the network drops the dimension of the batch where there is one picture{where}: "
            "write x.flatten(1) instead of x.squeeze()"
        )
    return _checked_rows(outputs, len(images), labels)


def _checked_rows(outputs: NDArray[np.float32], images: int, labels: int) -> NDArray[np.float32]:
    wide = [size for size in outputs.shape[1:] if size != 1]
    if outputs.ndim == 0 or len(outputs) != images or len(wide) > 1:
        raise ConversionError(
            f"the network answers {list(outputs.shape)} to {images} pictures, not [{images}, "
            f"{labels}]: it must give one row of {labels} outputs for each; end it with "
            "x.flatten(1) and a linear layer"
        )
    if not np.isfinite(outputs).all():
        raise ConversionError(
            "the network answers NaN or infinity: its weights or its --mean and --std are wrong; "
            "export an earlier checkpoint"
        )
    return as_rows(outputs)


def _relative_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    scale = max(float(np.abs(first).max()), 1e-6)
    return float(np.abs(first - second).max() / scale)
