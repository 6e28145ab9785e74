"""Looks at a network before anything is published: what it answers, what that means, what it is."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from convd.artifact.preprocessing import ImageArray, prepare_image
from convd.export.graph.conversion import convert
from convd.export.graph.ending import read_end
from convd.export.graph.head import Head, read_head
from convd.export.graph.network_graph import NetworkGraph
from convd.export.graph.network_output import (
    OWN_PROBABILITIES,
    OutputReading,
    check_labels,
    read_output,
)
from convd.export.graph.serving_model import check_serving_model
from convd.export.graph.wrapping import check_size, wrap
from convd.export.progress import ExportProgress
from convd.export.proof.features import check_head, reference_features
from convd.export.proof.given import check_reading, check_weights
from convd.export.proof.looking import Look, check_that_it_looks, look_at
from convd.export.proof.network_checks import answer_alone, check_modules
from convd.export.proof.pictures import PicturePool, make_pool
from convd.export.proof.reference import OneTensor, Reference, network_input
from convd.export.source import TrainedNetwork
from convd.export.sources.onnx_file import OnnxNetwork

_REAL_PICTURES = 32


@dataclass(frozen=True)
class Examination:
    """What was found out about a network.

    Attributes:
        reference: The network itself.
        pool: Random, constant and real pictures.
        outputs: What it answers to each of them alone, float32 `[pictures, outputs]`.
        graph: The network as ONNX.
        reading: What its outputs are.
        look: How much its answers depend on the picture.
    """

    reference: Reference
    pool: PicturePool
    outputs: NDArray[np.float32]
    graph: NetworkGraph
    reading: OutputReading
    look: Look


def examine(source: TrainedNetwork, progress: ExportProgress) -> Examination:
    """Find out what a network is, and refuse one that cannot be served as what it is.

    Raises:
        ExportError: It cannot be converted or run, answers alike whatever it is shown, or what its
            outputs are cannot be told.
    """
    check_modules(source.network)
    if source.weights is not None:
        check_weights(source.network, *source.weights)
    if isinstance(source.network, OnnxNetwork):
        check_size(source.network.graph.input, source.preprocessing)
    reference = Reference(source.network, source.normalization)
    pool = make_pool(_some_prepared(source))
    with progress.stage(f"asking {reference.name}"):
        outputs = answer_alone(reference, pool, len(source.labels))
    with progress.stage("converting to ONNX"):
        graph = _as_onnx(source)
    end = read_end(graph.model, graph.output)
    reading = read_output(end, outputs, source.activation, graph.output)
    if graph.rounds_to_half and reading.output in OWN_PROBABILITIES:
        # What the network's own activation rounds is not to be had from its logits.
        reading = replace(reading, logits=None)
    check_reading(reading.output, outputs, source.activation)
    check_labels(reading, outputs.shape[1], source.labels)
    if source.is_untrained:
        look = look_at(reading.output, outputs)
    else:
        look = check_that_it_looks(reference, pool, reading.output, outputs, source.normalization)
    return Examination(reference, pool, outputs, graph, reading, look)


def serving_model(
    source: TrainedNetwork,
    examination: Examination,
    temperature: float = 1.0,
    head: Head | None = None,
) -> onnx.ModelProto:
    """The graph that is served, in float32.

    Raises:
        ConversionError: It breaks the graph's contract.
    """
    labels = len(source.labels)
    model = wrap(
        examination.graph,
        examination.reading,
        source.preprocessing,
        source.normalization,
        labels,
        temperature,
        head,
    )
    check_serving_model(model, source.preprocessing, labels)
    return model


def examine_head(source: TrainedNetwork, found: Examination) -> tuple[Head, NDArray[np.float32]]:
    """Find a network's last layer, and what it takes for each picture of the pool.

    Returns:
        The layer, and float32 `[pictures, length]`.

    Raises:
        ExportError: There is none, or it cannot be proved that it is the last one.
    """
    inputs = network_input(found.pool.images[:1], source.normalization)
    if found.graph.input.channels_last:
        inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    head = read_head(found.graph, found.reading, inputs)
    features = reference_features(source, found.graph, head, found.pool.images)
    check_head(features, head, found.reading.output, found.outputs)
    return head, features


def _as_onnx(source: TrainedNetwork) -> NetworkGraph:
    if isinstance(source.network, OnnxNetwork):
        return source.network.graph
    takes_pixels = source.normalization is None
    return convert(OneTensor(source.network), source.preprocessing, takes_pixels=takes_pixels)


def _some_prepared(source: TrainedNetwork) -> list[ImageArray]:
    """Prepared pictures from the whole data set, since many are sorted by class."""
    count = min(_REAL_PICTURES, len(source.examples))
    indices = np.linspace(0, len(source.examples) - 1, count).round().astype(int)
    return [
        prepare_image(source.examples.picture(int(index)), source.preprocessing)
        for index in indices
    ]
