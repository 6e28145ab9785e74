"""From what the user names to a network that can be exported."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from convd.artifact.manifest import Fact, Provenance
from convd.export.errors import SourceError
from convd.export.graph.network_output import Activation
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.source import TrainedNetwork, count_parameters
from convd.export.sources.architecture import fill_architecture
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.export.sources.description import Description, GivenDescription, Known, describe
from convd.export.sources.exported_program import read_exported_program
from convd.export.sources.labelled_pictures import LabelledPictures, load_held_out
from convd.export.sources.libraries import LIBRARIES, library_network
from convd.export.sources.modules import prepare_module
from convd.export.sources.onnx_file import read_onnx_file
from convd.export.sources.onnx_folder import notes_of_onnx, onnx_of_folder
from convd.export.sources.python_callable import build_network, builders
from convd.export.sources.transformers_folder import library_of_folder
from convd.export.sources.weights_file import fill_from_file
from convd.export.sources.zoo import Recipe, ZooRequest
from convd.models.checkpoint import is_checkpoint
from convd.models.registry import Options, find_architecture
from convd.models.strangers import recognise
from convd.models.weights import suffix_of_weights

FORMS = (
    "a folder that convd train wrote, file.py:build, package.module:build, a .pt2 file, a .onnx "
    "file, torchvision:NAME[:WEIGHTS], timm:NAME, hf:FOLDER, or --arch NAME --weights FILE"
)


@dataclass(frozen=True)
class SourceRequest:
    """What the user asks to be exported.

    Attributes:
        source: One of `FORMS`; None with `architecture`.
        architecture: A registered architecture.
        weights: File with weights, for every source that is built without them.
        data: Specification of the data to evaluate on.
        weights_key: Which of several sets of weights in the file.
        recipe: Whose weights' recipe is taken, of those that the library has for the network.
        options: Options of the architecture that weights do not carry.
        output: Which output of an ONNX file with several.
        trust_code: Whether a file that can run code when it is read may be read.
        given: What the user says of the network.
    """

    source: str | None = None
    architecture: str | None = None
    weights: Path | None = None
    data: str | None = None
    weights_key: str | None = None
    recipe: str | None = None
    options: Options = field(default_factory=dict)
    output: str | None = None
    trust_code: bool = False
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
    suffix = path.suffix.lower()
    onnx_file = path if suffix == ".onnx" else onnx_of_folder(request.source)
    if onnx_file is not None:
        _refuse_weights(request)
        return _from_onnx(request, onnx_file)
    if suffix == ".pt2":
        _refuse_weights(request)
        traced, recipe = read_exported_program(path, trust_code=request.trust_code)
        description = describe(request.given, Known("the file", preprocessing=recipe))
        return _described(request, traced, description, path.name)
    kind, _, rest = (library_of_folder(path) or request.source).partition(":")
    if kind in LIBRARIES and rest:
        return _from_library(request, kind, rest)
    if rest:
        network = build_network(request.source)
        facts = fill_from_file(network, request.weights, request.weights_key)
        # The path of the file says nothing to those who read the artifact elsewhere.
        name = f"{Path(kind).name}:{rest}"
        return _described(request, network, describe(request.given), name, facts=facts)
    raise _not_exportable(request.source, path)


def source_of_module(
    module: nn.Module, given: GivenDescription, data: str | None = None
) -> TrainedNetwork:
    """Take a network that is in memory already; a copy of it, in eval mode.

    Args:
        module: The network.
        given: What is known of it.
        data: Specification of the data to evaluate on.

    Raises:
        SourceError: It is not described well enough, or cannot be exported.
        ModelsError: The data cannot be used.
    """
    network = copy.deepcopy(module).cpu().eval()
    request = SourceRequest(data=data, given=given)
    return _described(request, network, describe(given), type(module).__name__)


def _not_exportable(source: str, path: Path) -> SourceError:
    """Say what it is instead, and which command helps."""
    if path.exists():
        stranger = recognise(path)
        if stranger is not None:
            return SourceError(f"cannot export {source}: it {stranger}")
        if suffix_of_weights(path):
            return SourceError(
                f"cannot export {source}: weights alone do not say what network they are of; give "
                f"file.py:build --weights {source}, torchvision:NAME:random --weights {source}, or "
                f"--arch NAME --weights {source}"
            )
        if path.suffix == ".py":
            names = builders(path)
            return SourceError(
                f"cannot export {source}: name the function that builds the network, such as "
                f"{source}:{names[0] if names else 'build'}"
                + (f"; it has {', '.join(names)}" if len(names) > 1 else "")
            )
    return SourceError(f"cannot export {source}: give {FORMS}")


def _from_architecture(request: SourceRequest) -> TrainedNetwork:
    if request.architecture is None:
        raise SourceError(f"nothing to export: give {FORMS}")
    if request.weights is None:
        raise SourceError("--arch needs the trained weights: give --weights FILE")
    description = describe(request.given)
    filled = fill_architecture(
        find_architecture(request.architecture),
        request.weights,
        description,
        request.options,
        request.weights_key,
    )
    name = request.weights.name
    return _described(
        request, filled.network, description, name, facts=filled.facts, activation="softmax"
    )


def _from_library(request: SourceRequest, library: str, name: str) -> TrainedNetwork:
    labels = request.given.labels
    order = request.given.channel_order
    asked = ZooRequest(
        outputs=len(labels) if labels else None,
        channels=None if order is None else 1 if order == "L" else 3,
        recipe=request.recipe,
        weights=request.weights,
        options=request.options,
    )
    zoo, filled = library_network(library, name, asked, request.weights_key)
    known = Known(zoo.origin, zoo.labels, zoo.preprocessing, zoo.normalization)
    description = describe(request.given, known)
    theirs = (zoo.preprocessing, zoo.normalization)
    own_recipe = (description.preprocessing, description.normalization) == theirs
    return _described(
        request,
        zoo.network,
        description,
        f"{library}:{Path(name).name if '/' in name else name}",
        facts=(*zoo.facts, *filled),
        library_recipe=zoo.recipe if own_recipe else None,
        is_untrained=zoo.is_random and request.weights is None,
        activation=zoo.activation,
    )


def _from_onnx(request: SourceRequest, path: Path) -> TrainedNetwork:
    given = request.given
    network = read_onnx_file(path, channel_order=given.channel_order, output=request.output)
    notes = notes_of_onnx(path, network.model, network.graph.input, network.preprocessing, given)
    known = Known(
        "the file",
        labels=network.form.labels or notes.labels,
        preprocessing=notes.preprocessing,
        normalization=notes.normalization,
        takes_pixels=network.graph.input.takes_pixels,
        origins=notes.origins,
    )
    description = describe(given, known)
    own_recipe = (description.preprocessing, description.normalization) == (
        known.preprocessing,
        known.normalization,
    )
    return _described(
        request,
        network,
        description,
        path.name,
        parameters=network.parameters_count,
        library_recipe=notes.recipe if own_recipe else None,
        activation="sigmoid" if notes.is_multilabel else "auto",
    )


def _described(
    request: SourceRequest,
    network: nn.Module,
    description: Description,
    source: str,
    *,
    parameters: int | None = None,
    facts: tuple[Fact, ...] = (),
    library_recipe: Recipe | None = None,
    is_untrained: bool = False,
    activation: Activation = "auto",
) -> TrainedNetwork:
    network, prepared = prepare_module(network, description.preprocessing)
    return TrainedNetwork(
        network=network,
        labels=description.labels,
        preprocessing=description.preprocessing,
        normalization=description.normalization,
        provenance=Provenance(
            source=source,
            architecture=request.architecture,
            parameters=count_parameters(network) if parameters is None else parameters,
        ),
        examples=_examples(request.data, description.labels),
        activation=_activation(request, network, activation),
        given=request.given,
        weights=(request.weights, request.weights_key) if request.weights else None,
        library_recipe=library_recipe,
        is_untrained=is_untrained,
        facts=(*description.facts, *facts, *prepared),
    )


def _activation(request: SourceRequest, network: nn.Module, known: Activation) -> Activation:
    """What the user says; a library's networks are known to give logits."""
    said = request.given.activation
    if said != "auto" or known == "auto":
        return said
    layers = [each for each in network.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    return "auto" if layers and len(layers[-1].weight) == 1 else known


def _examples(data: str | None, labels: tuple[str, ...]) -> LabelledPictures | SamplePictures:
    return SamplePictures() if data is None else load_held_out(data, labels)


def _refuse_weights(request: SourceRequest) -> None:
    if request.weights is not None:
        raise SourceError(f"{request.source} has its weights in it: leave --weights out")
