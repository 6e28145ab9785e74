"""What a network's outputs are is decided rightly, or refused: never published wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convd.artifact.bundle import Artifact
from convd.artifact.manifest import NetworkOutput
from convd.artifact.repository import ModelRepository
from convd.export.errors import ExportError
from convd.export.graph.network_output import Activation
from convd.export.publication import publish
from convd.protos.convd.v1 import classification_pb2 as pb
from tests.export import endings
from tests.export.endings import Answer, Ending, TwoHeads
from tests.export.networks import trained
from tests.support import png, running_server

TWO, THREE, FOUR = ("cat", "dog"), ("even", "large", "loop"), ("a", "b", "c", "d")
Probabilities = Callable[[Tensor], Tensor]


def sigmoid_pair(x: Tensor) -> Tensor:
    p = x.reshape(-1, 1).sigmoid()
    return torch.cat([1 - p, p], dim=1)


def softmax(x: Tensor) -> Tensor:
    return x.softmax(dim=1)


def pictures() -> list[Image.Image]:
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    noise[4:8] //= 8
    noise[8:] |= 192
    return [Image.fromarray(one) for one in noise]


class Ended(NamedTuple):
    """A network, what its outputs are, and the probabilities that belong to its plain logits."""

    network: nn.Module
    labels: tuple[str, ...]
    output: NetworkOutput
    probabilities: Probabilities = softmax
    activation: Activation = "auto"


PUBLISHED = {
    "logits": Ended(Ending(4, nn.Identity()), FOUR, "logits"),
    "spatial": Ended(Ending(4, endings.spatial), FOUR, "logits"),
    "dict": Ended(Ending(4, lambda x: {"logits": x, "loss": None}), FOUR, "logits"),
    "dataclass": Ended(Ending(4, Answer), FOUR, "logits"),
    "tuple": Ended(Ending(4, lambda x: (x, [x[:, :1]])), FOUR, "logits"),
    "softmax": Ended(Ending(4, softmax), FOUR, "probabilities"),
    "softmax-layer": Ended(Ending(4, nn.Softmax(dim=-1)), FOUR, "probabilities"),
    "own-softmax": Ended(Ending(4, endings.own_softmax), FOUR, "probabilities"),
    "average": Ended(
        Ending(4, endings.average_of_two), FOUR, "probabilities", endings.average_of_two
    ),
    "pair": Ended(Ending(1, endings.pair), TWO, "probabilities", sigmoid_pair),
    "log-softmax": Ended(Ending(4, nn.LogSoftmax(dim=1)), FOUR, "log_probabilities"),
    "log-of-softmax": Ended(Ending(4, lambda x: x.softmax(1).log()), FOUR, "log_probabilities"),
    "sigmoids": Ended(Ending(3, nn.Sigmoid()), THREE, "independent_probabilities", torch.sigmoid),
    "sigmoid-logits": Ended(
        Ending(3, nn.Identity()), THREE, "independent_logits", torch.sigmoid, "sigmoid"
    ),
    "one-sigmoid": Ended(Ending(1, nn.Sigmoid()), TWO, "one_probability", sigmoid_pair),
    "one-logit": Ended(Ending(1, nn.Identity()), TWO, "one_logit", sigmoid_pair),
    "flat-logit": Ended(Ending(1, lambda x: x.squeeze(1)), TWO, "one_logit", sigmoid_pair),
    "clipped": Ended(
        Ending(4, torch.relu), FOUR, "logits", lambda x: x.relu().softmax(dim=1), "softmax"
    ),
    "scaled": Ended(
        Ending(3, endings.scaled_sigmoid),
        THREE,
        "independent_probabilities",
        endings.scaled_sigmoid,
        "none",
    ),
    "one-layer": Ended(TwoHeads(nn.Identity()), (*FOUR, "e", "f"), "logits", activation="softmax"),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each network that ends in some way, published."""
    root = tmp_path_factory.mktemp("repository")
    for name, one in PUBLISHED.items():
        source = trained(one.network, one.labels, activation=one.activation)
        publish(source, ModelRepository(root), name)
    return root


def test_each_is_served_as_what_it_is(repository: Path) -> None:
    images = pictures()
    inputs = torch.from_numpy(np.stack([np.array(one) for one in images])).permute(0, 3, 1, 2)
    inputs = (inputs / 255 - 0.5) / 0.5
    with running_server(repository) as client:
        for name, one in PUBLISHED.items():
            manifest = Artifact.open(repository / name / "1").manifest
            assert manifest.network_output == one.output, name
            independent = one.output.startswith("independent")
            assert manifest.task == ("multilabel" if independent else "multiclass"), name
            plain = one.network.network if isinstance(one.network, Ending) else one.network
            with torch.inference_mode():
                wanted = one.probabilities(plain(inputs)).numpy()
            results: list[pb.ImageResult] = []
            for half in (images[:8], images[8:]):
                results += client.classify(*map(png, half), model=name).results
            found = np.zeros((len(images), len(one.labels)), np.float32)
            for row, result in enumerate(results):
                for answer in result.classification.classes:
                    assert answer.label == one.labels[answer.index]
                    found[row, answer.index] = answer.probability
            assert np.abs(found - wanted).max() < 1e-5, name
            assert np.ptp(wanted, axis=0).max() > 0.02, name


@pytest.mark.parametrize(
    ("network", "labels", "activation", "message"),
    [
        (TwoHeads(softmax), 6, "auto", r"several heads: Concat .* joins Softmax .*, Softmax"),
        (TwoHeads(nn.Identity()), 6, "auto", r"several heads: .*joins the layers .*other\.weight"),
        (Ending(4, endings.two_softmaxes), 4, "auto", "several heads"),
        (TwoHeads(softmax), 6, "softmax", "would be applied to probabilities"),
        (Ending(4, endings.spatial_softmax), 4, "auto", r"Softmax .*over axis 2 of 3 dimensions"),
        (Ending(4, endings.unit_length), 4, "auto", "rows of length 1 are an embedding"),
        (Ending(4, endings.clipped), 4, "auto", r"ends in Clip .*--activation softmax"),
        (Ending(4, torch.relu), 4, "auto", r"ends in Relu"),
        (Ending(4, torch.tanh), 4, "auto", r"ends in Tanh"),
        (Ending(4, torch.nn.functional.hardsigmoid), 4, "auto", "ends in HardSigmoid"),
        (Ending(3, endings.scaled_sigmoid), 3, "auto", "lie within 0 and 1 but are no rows"),
        (Ending(4, endings.masked_softmax), 4, "auto", "lie within 0 and 1 but are no rows"),
        (Ending(1, endings.scaled_sigmoid), 2, "auto", "lie within 0 and 1"),
        (Ending(1, softmax), 2, "auto", "the softmax of one number is always 1"),
        (Ending(1, nn.Identity()), 2, "softmax", "the softmax of one number is always 1"),
        (Ending(4, softmax), 4, "softmax", r"ends in Softmax .*leave it out"),
        (Ending(3, nn.Sigmoid()), 3, "sigmoid", r"ends in Sigmoid .*leave it out"),
        (Ending(4, nn.LogSoftmax(dim=1)), 4, "sigmoid", "logarithms of probabilities"),
        (Ending(4, nn.Identity()), 4, "none", "says that the outputs are probabilities, but"),
        (Ending(4, nn.Identity()), 3, "auto", "has 4 outputs, but there are 3 labels"),
        (Ending(1, nn.Identity()), 1, "auto", "one output .*two names"),
        (Ending(1, nn.Sigmoid()), 3, "auto", "one output .*two names"),
        (Ending(4, lambda x: x.argmax(dim=1, keepdim=True)), 4, "auto", "ends in ArgMax"),
        (Ending(4, lambda x: x.softmax(dim=0)), 4, "auto", "depends on the others in its batch"),
        (Ending(4, lambda x: x - x.mean(dim=0)), 4, "auto", "depends on the others in its batch"),
        (Ending(4, lambda x: x.view(-1, 2, 2)), 4, "auto", r"\[7, 2, 2\] to 7 pictures"),
        (Ending(4, lambda x: x + torch.arange(len(x))[:, None]), 4, "auto", "depends on the"),
        (Ending(4, lambda x: {"one": x, "other": x}), 4, "auto", "a dict with 2 tensors"),
        (Ending(4, lambda x: torch.nn.functional.logsigmoid(x)), 4, "auto", "ends in|cannot be"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_was_seen(
    network: nn.Module, labels: int, activation: Activation, message: str, tmp_path: Path
) -> None:
    names = tuple(f"label {number}" for number in range(labels))
    with pytest.raises(ExportError, match=message):
        publish(trained(network, names, activation=activation), ModelRepository(tmp_path), "net")
    assert not list((tmp_path / "net").iterdir())
