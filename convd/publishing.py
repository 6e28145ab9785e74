"""`convd.publish`: a trained network of this process, as the next version of a model."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convd.artifact.preprocessing import (
    CenterCrop,
    ChannelOrder,
    Interpolation,
    ResizeShorterSide,
    ResizeTo,
)
from convd.artifact.repository import check_model_name
from convd.export.graph.network_output import Activation
from convd.export.options import ExportOptions, ExportPrecision
from convd.export.publication import Published, open_destination
from convd.export.publication import publish as publish_source
from convd.export.sources.description import GivenDescription
from convd.export.sources.labelled_pictures import load_held_out, load_training_part
from convd.export.sources.loading import source_of_module

if TYPE_CHECKING:
    from torch import nn


def publish(
    module: "nn.Module",
    *,
    name: str,
    repository: str | os.PathLike[str],
    labels: Sequence[str],
    resize: int | tuple[int, int],
    crop: int | tuple[int, int] | None = None,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    channel_order: ChannelOrder | None = None,
    interpolation: Interpolation | None = None,
    activation: Activation = "auto",
    data: str | None = None,
    calibrate: str | None = None,
    precision: ExportPrecision = "float32",
    quantization_data: str | None = None,
) -> Published:
    """Publish a trained network as the next version of a model, verified as `convd export` does.

    Every argument is the flag of `convd export` of the same name; docs/export.md describes them.

    Args:
        module: From normalised float32 `[batch, channels, height, width]` to one row of outputs
            for each picture; it is left as it is.
        name: Name under which the model is served.
        repository: Folder with the models, made if it does not exist; or a place in object
            storage, such as s3://BUCKET/PREFIX.
        labels: Class names, in the order of the outputs.
        resize: Length of the shorter side, or height and width, in pixels.
        crop: What is cut from the middle: one number for both sides, or height and width.
        mean: Per channel, or one for all, of pixels scaled to 0..1.
        std: Likewise.
        channel_order: `RGB` by default; `L` is grayscale.
        interpolation: The resampling filter.
        activation: What has still to be applied to the outputs.
        data: Specification of the data that accuracy is measured on, such as `folder:PATH`.
        calibrate: Specification of the data that a temperature is fitted on.
        precision: Precision of the published weights.
        quantization_data: What int8 sees to choose its scales.

    Returns:
        Its folder, version and manifest.

    Raises:
        ExportError: The network cannot be converted, or gives other answers once it is.
        ArtifactError: The name or the repository cannot be used.
        ModelsError: The data cannot be read.

    Example:
        >>> published = convd.publish(
        ...     network,
        ...     name="shapes",
        ...     repository=repository,
        ...     labels=["circle", "square"],
        ...     resize=(16, 16),
        ...     mean=0.5,
        ...     std=0.5,
        ... )
        >>> published.version
        1
    """
    check_model_name(name)
    given = GivenDescription(
        labels=tuple(labels),
        resize=ResizeShorterSide(size=resize)
        if isinstance(resize, int)
        else ResizeTo(height=resize[0], width=resize[1]),
        crop=None if crop is None else _center_crop(crop),
        interpolation=interpolation,
        channel_order=channel_order,
        mean=_per_channel(mean),
        std=_per_channel(std),
        activation=activation,
    )
    source = source_of_module(module, given, data)
    options = ExportOptions(
        precision=precision,
        quantization_data=load_training_part(quantization_data) if quantization_data else None,
        calibration_data=load_held_out(calibrate, source.labels) if calibrate else None,
    )
    return publish_source(source, open_destination(os.fspath(repository)), name, options)


def _center_crop(size: int | tuple[int, int]) -> CenterCrop:
    height, width = (size, size) if isinstance(size, int) else size
    return CenterCrop(height=height, width=width)


def _per_channel(values: float | Sequence[float]) -> tuple[float, ...]:
    return (float(values),) if isinstance(values, int | float) else tuple(values)
