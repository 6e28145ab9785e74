"""`convd export --features`: what the last layer takes, proved, served to those who ask for it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from google.protobuf import json_format
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.class_activation import class_activation_map, read_class_weights
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.errors import ConversionError, ParityError
from convd.export.options import ExportOptions
from convd.export.publication import publish
from convd.models import create_model
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.inference import grpc_service_pb2 as v2
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from convd.runtime.cpu import CPU
from convd.runtime.selftest import SelfTestError, run_self_test
from convd.runtime.session import Session
from tests.export.networks import CLASSES, TinyCnn, trained
from tests.support import Client, code_of, http_request, png, rewrite_manifest, running_server

WITH_FEATURES = ExportOptions(features=True)
PICTURES = [
    Image.fromarray(pixels)
    for pixels in np.random.default_rng(5).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
]


class Flattened(TinyCnn):
    """Its last layer takes feature maps, not their means."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8 * 14 * 14, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.convolution(x).relu().flatten(1))
        return logits


class WithoutLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = 9 * self.convolution(x).mean(dim=(2, 3))
        return logits


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    models = ModelRepository(root)
    publish(trained(TinyCnn().eval()), models, "maps", WITH_FEATURES)
    publish(trained(Flattened().eval()), models, "flat", WITH_FEATURES)
    publish(trained(TinyCnn().eval()), models, "plain")
    return root


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[Client]:
    with running_server(repository) as client:
        yield client


def expected() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and maps of the pictures, computed in PyTorch."""
    network = TinyCnn().eval()
    pixels = np.stack([np.asarray(picture) for picture in PICTURES]).astype(np.float32)
    x = torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return network.features(x).numpy(), network.convolution(x).relu().numpy()


def test_features_and_maps_are_pytorchs(client: Client) -> None:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="maps"),
        images=[pb.Image(encoded=png(picture)) for picture in PICTURES],
        return_features=True,
        return_activation_maps=True,
    )
    features, maps = expected()
    for place, result in enumerate(client.stub.Classify(request).results):
        found = result.classification
        assert np.abs(np.array(found.features) - features[place]).max() < 1e-5
        shape = (
            found.activation_maps.maps,
            found.activation_maps.height,
            found.activation_maps.width,
        )
        assert shape == maps.shape[1:]
        assert np.abs(np.reshape(found.activation_maps.values, shape) - maps[place]).max() < 1e-5


def test_they_are_the_same_over_http(client: Client) -> None:
    image = png(PICTURES[0])
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="maps"),
        images=[pb.Image(encoded=image)],
        return_features=True,
        return_activation_maps=True,
    )
    path = "/v1/classify/maps?top_k=0&return_features=true&return_activation_maps=1"
    status, _, body = http_request(client.http_port, "POST", path, image)
    assert status == 200
    found = json_format.ParseDict(json.loads(body), pb.ClassifyResponse())
    assert found == client.stub.Classify(request)


def test_who_does_not_ask_pays_nothing(repository: Path, tmp_path: Path) -> None:
    """ONNX Runtime computes all outputs, wanted or not: so none may take an operator of its own."""
    operators = []
    for model in ("plain", "maps"):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{model}.onnx")
        graph = (repository / model / "1" / MODEL_FILE).read_bytes()
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(tmp_path / f"{model}.onnx")
        operators.append(sorted(node.op_type for node in optimized.graph.node))
    assert operators[0] == operators[1]


def test_who_does_not_ask_gets_none(client: Client) -> None:
    found = client.classify(png(PICTURES[0]), model="maps").results[0].classification
    assert not found.features
    assert not found.HasField("activation_maps")


def test_an_unusable_picture_does_not_shift_the_features_of_others(client: Client) -> None:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name="maps"),
        images=[pb.Image(encoded=data) for data in (png(PICTURES[0]), b"none", png(PICTURES[1]))],
        return_features=True,
    )
    first, refused, last = client.stub.Classify(request).results
    assert refused.HasField("error")
    features, _ = expected()
    for result, wanted in ((first, features[0]), (last, features[1])):
        assert np.abs(np.array(result.classification.features) - wanted).max() < 1e-5


def test_the_open_inference_protocol_serves_them_on_request(client: Client) -> None:
    stub = GRPCInferenceServiceStub(client.channel)
    described = stub.ModelMetadata(v2.ModelMetadataRequest(name="maps"))
    shapes = {output.name: list(output.shape) for output in described.outputs}
    assert shapes["features"] == [-1, 8]
    assert shapes["activation_maps"] == [-1, 8, 14, 14]
    request = v2.ModelInferRequest(model_name="maps")
    request.inputs.add(name="encoded_image", datatype="BYTES", shape=[1, 1])
    request.inputs[0].contents.bytes_contents.append(png(PICTURES[0]))
    assert [output.name for output in stub.ModelInfer(request).outputs] == [
        "probabilities",
        "logits",
    ]
    request.outputs.add(name="features")
    answer = stub.ModelInfer(request)
    assert [output.name for output in answer.outputs] == ["features"]
    found = np.frombuffer(answer.raw_output_contents[0], "<f4")
    assert np.abs(found - expected()[0][0]).max() < 1e-5


@pytest.mark.parametrize(
    ("model", "field", "why"),
    [
        ("plain", "return_features", "export it with --features"),
        ("flat", "return_activation_maps", "does not take the means of feature maps"),
    ],
)
def test_a_model_without_them_says_so(client: Client, model: str, field: str, why: str) -> None:
    request = pb.ClassifyRequest(
        model=pb.ModelSpec(name=model), images=[pb.Image(encoded=png(PICTURES[0]))], **{field: True}
    )
    code, text = code_of(lambda: client.stub.Classify(request))
    assert (code.name, why in text) == ("INVALID_ARGUMENT", True)


def test_the_manifest_says_what_there_is(repository: Path) -> None:
    maps = Artifact.open(repository / "maps" / "1")
    assert maps.manifest.features is not None
    assert maps.manifest.features.length == 8
    assert maps.manifest.features.map_shape == (8, 14, 14)
    assert all((one.max_feature_difference or 0) < 1e-5 for one in maps.manifest.parity[:1])
    flat = Artifact.open(repository / "flat" / "1").manifest.features
    assert flat is not None
    assert (flat.length, flat.map_shape) == (8 * 14 * 14, None)
    assert Artifact.open(repository / "plain" / "1").manifest.features is None


def test_maps_and_weights_make_the_logits(repository: Path) -> None:
    artifact = Artifact.open(repository / "maps" / "1")
    weights = read_class_weights(artifact)
    assert weights is not None
    assert weights.shape == (len(CLASSES), 8)
    image = np.asarray(PICTURES[0])[np.newaxis]
    answer = Session(artifact.read(MODEL_FILE), CPU).run(image, frozenset({"activation_maps"}))
    assert answer.features is None
    assert answer.activation_maps is not None
    for place, logit in enumerate(answer.logits[0]):
        evidence = class_activation_map(answer.activation_maps[0], weights[place])
        assert abs(evidence.mean() + TinyCnn().linear.bias[place].item() - logit) < 1e-5


def test_the_card_shows_what_was_learned(repository: Path, published: Path) -> None:
    wanted = {
        repository / "maps" / "1": ["filters", "class-maps"],
        published: ["filters", "stage-c1", "stage-s2", "stage-c3", "stage-s4", "least-sure"],
    }
    for path, names in wanted.items():
        card = (path / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "## What it has learned" in card
        for name in names:
            file = f"plots/{name}.png"
            assert f"({file})" in card
            assert file in Artifact.open(path).manifest.files
            with Image.open(path / file) as picture:
                assert picture.width >= 64


def test_the_self_test_compares_features(tmp_path: Path) -> None:
    version = ModelRepository(tmp_path)
    path = publish(trained(TinyCnn().eval()), version, "maps", WITH_FEATURES).path
    rewrite_manifest(path, features=None)
    artifact = Artifact.open(path)
    with pytest.raises(SelfTestError, match="optional outputs"):
        run_self_test(artifact, Session(artifact.read(MODEL_FILE), CPU))


def test_a_network_without_a_linear_layer_is_refused(tmp_path: Path) -> None:
    source = trained(WithoutLinear().eval())
    with pytest.raises((ConversionError, ParityError), match="--features"):
        publish(source, ModelRepository(tmp_path), "none", WITH_FEATURES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121"])
def test_class_activation_is_its_definition_in_pytorch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model(name, num_classes=5).eval()
    recipe = Preprocessing(resize=ResizeTo(height=64, width=64))
    source = dataclasses.replace(trained(network), preprocessing=recipe)
    artifact = Artifact.open(publish(source, ModelRepository(tmp_path), name, WITH_FEATURES).path)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    answer = Session(artifact.read(MODEL_FILE), CPU).run(pixels, frozenset({"activation_maps"}))
    x = torch.from_numpy((pixels.astype(np.float32) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.inference_mode():
        maps = network.intermediates(x)["features"]
        wanted = torch.einsum("ck,nkhw->nchw", last.weight, maps).numpy()
    weights = read_class_weights(artifact)
    assert weights is not None
    assert answer.activation_maps is not None
    for picture, own in enumerate(answer.activation_maps):
        for label in range(len(CLASSES)):
            found = class_activation_map(own, weights[label])
            # Random weights give evidence near 100, of which float32 keeps seven digits.
            limit = 1e-5 * max(1.0, np.abs(wanted).max())
            assert np.abs(found - wanted[picture, label]).max() < limit
