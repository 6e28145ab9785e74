"""From what the user names to a network that can be exported."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from convd.artifact.manifest import Provenance
from convd.export.errors import SourceError
from convd.export.sample_pictures import SamplePictures
from convd.export.source import TrainedNetwork, count_parameters
from convd.export.sources import model_zoo
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.export.sources.description import Description, GivenDescription, describe
from convd.export.sources.evaluation_data import load_held_out
from convd.export.sources.exported_program import read_exported_program
from convd.export.sources.onnx_file import read_onnx_file
from convd.export.sources.python_callable import build_network
from convd.models.checkpoint import is_checkpoint
from convd.models.data import ImageDataset
from convd.models.foreign import load_foreign_checkpoint
from convd.models.registry import find_architecture
from convd.models.weights import load_weights, shown

FORMS = (
    "a folder that convd train wrote, file.py:build, package.module:build, a .pt2 file, a .onnx "
    "file, torchvision:NAME[:WEIGHTS], timm:NAME, or --arch NAME --weights FILE"
)


@dataclass(frozen=True)
class SourceRequest:
    """What the user asks to be exported.

    Attributes:
        source: One of `FORMS`; None with `architecture`.
        architecture: A registered architecture.
        weights: File with weights, for every source that is built without them.
        data: Specification of the data to evaluate on.
        given: What the user says of the network.
    """

    source: str | None = None
    architecture: str | None = None
    weights: Path | None = None
    data: str | None = None
    given: GivenDescription = field(default_factory=GivenDescription)


def load_source(request: SourceRequest) -> TrainedNetwork:
    """Load a network and everything that its artifact has to promise.

    Raises:
        SourceError: The source cannot be read, or is not described well enough.
        ModelsError: The architecture, weights, checkpoint or data cannot be used.
    """
    if request.source is None:
        return _from_architecture(request)
    if request.architecture is not None:
        raise SourceError(f"give either {request.source} or --arch, not both")
    path = Path(request.source)
    if is_checkpoint(path):
        _refuse_weights(request)
        request.given.refuse_for("the checkpoint")
        return network_from_checkpoint(path, data=request.data)
    if path.suffix == ".onnx":
        _refuse_weights(request)
        return _from_onnx(request, path)
    if path.suffix == ".pt2":
        _refuse_weights(request)
        traced, recipe = read_exported_program(path)
        description = describe(request.given, preprocessing=recipe)
        return _described(request, traced, description, path.name)
    kind, _, rest = request.source.partition(":")
    if kind in ("torchvision", "timm") and rest:
        return _from_zoo(request, kind, rest)
    if rest:
        network = build_network(request.source)
        _fill(network, request.weights)
        # The path of the file says nothing to those who read the artifact elsewhere.
        return _described(request, network, describe(request.given), f"{Path(kind).name}:{rest}")
    raise SourceError(f"{request.source} is nothing that can be exported: give {FORMS}")


def _from_architecture(request: SourceRequest) -> TrainedNetwork:
    if request.architecture is None:
        raise SourceError(f"nothing to export: give {FORMS}")
    if request.weights is None:
        raise SourceError("--arch needs the trained weights: give --weights FILE")
    architecture = find_architecture(request.architecture)
    description = describe(request.given)
    height, width = description.preprocessing.output_size
    architecture.check_input_size(min(height, width))
    network = load_foreign_checkpoint(
        architecture.name,
        request.weights,
        num_classes=len(description.labels),
        in_channels=description.preprocessing.channels,
    )
    return _described(request, network, description, request.weights.name)


def _from_zoo(request: SourceRequest, library: str, name: str) -> TrainedNetwork:
    build = model_zoo.torchvision_network if library == "torchvision" else model_zoo.timm_network
    labels = request.given.labels
    zoo = build(name, num_classes=len(labels) if labels else None)
    _fill(zoo.network, request.weights)
    description = describe(
        request.given,
        labels=zoo.labels,
        preprocessing=zoo.preprocessing,
        normalization=zoo.normalization,
    )
    return _described(request, zoo.network, description, f"{library}:{name}")


def _from_onnx(request: SourceRequest, path: Path) -> TrainedNetwork:
    network, recipe = read_onnx_file(path, channel_order=request.given.channel_order)
    takes_pixels = network.input.takes_pixels
    description = describe(request.given, preprocessing=recipe, takes_pixels=takes_pixels)
    return _described(request, network, description, path.name, network.parameters_count)


def _described(
    request: SourceRequest,
    network: nn.Module,
    description: Description,
    source: str,
    parameters: int | None = None,
) -> TrainedNetwork:
    labels, preprocessing, normalization = description
    examples, examples_name = _examples(request.data, labels)
    return TrainedNetwork(
        network=network,
        labels=labels,
        preprocessing=preprocessing,
        normalization=normalization,
        provenance=Provenance(
            source=source,
            architecture=request.architecture,
            parameters=count_parameters(network) if parameters is None else parameters,
        ),
        examples=examples,
        examples_name=examples_name,
    )


def _examples(
    data: str | None, labels: tuple[str, ...]
) -> tuple[ImageDataset | SamplePictures, str]:
    if data is None:
        return SamplePictures(), SamplePictures.name
    return load_held_out(data, labels)


def _fill(network: nn.Module, path: Path | None) -> None:
    """Put the weights of a file, where one is given, into a network that convd does not know."""
    if path is None:
        return
    weights = load_weights(path)
    expected = network.state_dict()
    for kind, names in (
        ("lacks", expected.keys() - weights.keys()),
        ("has besides", weights.keys() - expected.keys()),
        (
            "has of another shape",
            {
                name
                for name in expected.keys() & weights.keys()
                if expected[name].shape != weights[name].shape
            },
        ),
    ):
        if names:
            raise SourceError(
                f"{path} is of another network: it {kind} {shown(sorted(names))}; give the weights "
                "of this one"
            )
    network.load_state_dict(weights)


def _refuse_weights(request: SourceRequest) -> None:
    if request.weights is not None:
        raise SourceError(f"{request.source} has its weights in it: leave --weights out")
