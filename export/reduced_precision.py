"""Reduces a network's precision, and refuses if that costs too much accuracy."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from convd.artifact.evidence import QuantizationReport
from convd.artifact.preprocessing import Preprocessing, prepare_image
from convd.export.activation_ranges import MAX_EXAMPLES
from convd.export.errors import AccuracyDropError
from convd.export.float16 import to_float16
from convd.export.options import ExportOptions
from convd.export.progress import ExportProgress
from convd.export.range_choice import Quantized, quantize
from convd.export.report.evaluation import Evaluation
from convd.export.sources.labelled_pictures import Pictures

_MAX_COMPARED = 128


def reduce_precision(
    model: onnx.ModelProto,
    preprocessing: Preprocessing,
    options: ExportOptions,
    progress: ExportProgress,
) -> tuple[onnx.ModelProto, Quantized | None]:
    """Convert a float32 graph to the requested precision.

    Args:
        model: A served graph in float32.
        preprocessing: From a decoded picture to the graph's input.
        options: Which precision, and what to measure activations on.
        progress: Told of each stage.

    Returns:
        The graph, and how it was chosen where it is int8.

    Raises:
        ConversionError: The graph cannot be quantised.
    """
    if options.precision == "float16":
        with progress.stage("converting to float16"):
            return to_float16(model), None
    if options.quantization_data is not None:
        pictures = options.quantization_data
        examples, compared = _split(len(pictures))
        total = len(examples) + len(compared)
        with progress.stage("choosing the ranges of activations", total) as advance:
            quantized = quantize(
                model,
                _prepared(pictures, preprocessing, examples),
                _prepared(pictures, preprocessing, compared),
                advance,
            )
        return quantized.model, quantized
    return model, None


def check_accuracy_drop(
    before: Evaluation, after: Evaluation, options: ExportOptions, quantized: Quantized | None
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
        examples=len(_split(len(data))[0]) if data else 0,
        range_method=quantized.method if quantized else None,
        signal_to_noise_db=(
            {str(method): db for method, db in quantized.signal_to_noise_db.items()}
            if quantized
            else {}
        ),
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


def _split(pictures: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pictures to measure ranges on, and others to compare on, if there are enough.

    Both come from the whole data set, since many are sorted by class.
    """
    total = min(pictures, MAX_EXAMPLES + _MAX_COMPARED)
    chosen = np.linspace(0, pictures - 1, total).round().astype(np.int64)
    held_out = np.arange(total) % 3 == 2
    if total < 3:
        return chosen, chosen
    return chosen[~held_out], chosen[held_out]


def _prepared(
    pictures: Pictures, preprocessing: Preprocessing, indices: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    for index in indices:
        yield prepare_image(pictures.picture(int(index)), preprocessing)
