"""Reduces a network's precision, and refuses if that costs too much accuracy."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from convd.artifact.evidence import QuantizationReport
from convd.artifact.preprocessing import Preprocessing, prepare_image
from convd.export.errors import AccuracyDropError
from convd.export.float16 import to_float16
from convd.export.options import ExportOptions
from convd.export.progress import ExportProgress
from convd.export.quantization import MAX_EXAMPLES, to_int8
from convd.export.report.evaluation import Evaluation
from convd.export.sources.labelled_pictures import Pictures

_BATCH_SIZE = 32


def reduce_precision(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    options: ExportOptions,
    progress: ExportProgress,
) -> onnx.ModelProto:
    """Convert a float32 graph to the requested precision.

    Args:
        model: A served graph in float32.
        preprocessing: From a decoded picture to the graph's input.
        options: Which precision, and what to measure activations on.
        progress: Told of each stage.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    if options.precision == "float16":
        with progress.stage("converting to float16"):
            return to_float16(model)
    if options.quantization_data is not None:
        pictures = options.quantization_data
        total = min(MAX_EXAMPLES, len(pictures))
        with progress.stage("measuring the ranges of activations", total) as advance:
            return to_int8(model, _batches(pictures, preprocessing, total), advance)
    return model


def check_accuracy_drop(
    before: Evaluation, after: Evaluation, options: ExportOptions
) -> QuantizationReport:
    """Compare the accuracy of the float32 network with that of the smaller one.

    Raises:
        AccuracyDropError: The drop is over the limit.
    """
    quality_before, quality_after = before.accuracy().quality, after.accuracy().quality
    drop = quality_before - quality_after
    if drop > options.max_accuracy_drop:
        raise AccuracyDropError(
            f"{options.precision} costs {drop:.2%} of accuracy{_in_pictures(before, after)} "
            f"({quality_before:.2%} before, {quality_after:.2%} after, on {before.data}), more "
            f"than --max-accuracy-drop allows ({options.max_accuracy_drop:.2%}); give more "
            "--quantization-data, or publish float32"
        )
    data = options.quantization_data
    return QuantizationReport(
        data=data.name if data else None,
        examples=min(MAX_EXAMPLES, len(data)) if data else 0,
        top1_before=before.accuracy().top1,
        top1_after=after.accuracy().top1,
        max_accuracy_drop=options.max_accuracy_drop,
    )


def _in_pictures(before: Evaluation, after: Evaluation) -> str:
    """The drop as a number of pictures, and what so few of them can tell; not for labels."""
    if before.task != "multiclass":
        return ""
    low, high = after.accuracy().interval
    lost = before.accuracy().right - after.accuracy().right
    return (
        f", {lost} of {len(before.truth)} pictures, where the 95 % interval of the accuracy is "
        f"{low:.1%} to {high:.1%}"
    )


def _batches(
    pictures: Pictures, preprocessing: Preprocessing, total: int
) -> Iterator[NDArray[np.uint8]]:
    """Pictures from the whole data set, since many are sorted by class."""
    indices = np.linspace(0, len(pictures) - 1, total).round().astype(int)
    for start in range(0, total, _BATCH_SIZE):
        chosen = indices[start : start + _BATCH_SIZE]
        yield np.stack(
            [prepare_image(pictures.picture(int(index)), preprocessing) for index in chosen]
        )
