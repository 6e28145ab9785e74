"""Every kind of source, and what is said of those that cannot be used."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.errors import SourceError
from convd.export.proof.sample_pictures import SamplePictures
from convd.export.publication import publish
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from convd.models import create_model
from convd.models.errors import ModelsError
from tests.export.networks import CLASSES, TinyCnn
from tests.models import torchvision_oracle  # noqa: F401  makes torchvision importable

DESCRIBED = GivenDescription(
    labels=CLASSES, resize=ResizeTo(height=16, width=16), mean=(0.5,), std=(0.25,)
)


def test_a_function_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("CLASSES = 5\n")
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\nfrom beside import CLASSES\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, CLASSES)).eval()\n"
    )
    source = load_source(SourceRequest(f"{file}:build", given=DESCRIBED))
    assert source.provenance.source == "net.py:build"
    assert source.provenance.parameters == 768 * 5 + 5
    assert source.normalization is not None
    assert source.normalization.mean == (0.5, 0.5, 0.5)
    assert isinstance(source.examples, SamplePictures)


def test_a_function_in_a_module() -> None:
    source = load_source(SourceRequest("tests.export.networks:build", given=DESCRIBED))
    assert source.labels == CLASSES


def test_weights_fill_a_network_that_was_built_without(tmp_path: Path) -> None:
    other = TinyCnn()
    with torch.no_grad():
        other.linear.bias.fill_(3)
    save_file(other.state_dict(), tmp_path / "weights.safetensors")
    source = load_source(
        SourceRequest(
            "tests.export.networks:build",
            weights=tmp_path / "weights.safetensors",
            given=DESCRIBED,
        )
    )
    assert torch.equal(source.network.state_dict()["linear.bias"], torch.full((5,), 3.0))
    save_file({"linear.bias": torch.zeros(4)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelsError, match=r"lacks convolution.bias, .*give the weights of this"):
        load_source(
            SourceRequest(
                "tests.export.networks:build",
                weights=tmp_path / "other.safetensors",
                given=DESCRIBED,
            )
        )


def test_an_architecture_and_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model("lenet5", num_classes=5, in_channels=1).eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "lenet.pth")
    given = GivenDescription(
        labels=CLASSES,
        resize=ResizeTo(height=32, width=32),
        channel_order="L",
        mean=(0.0,),
        std=(1.0,),
    )
    request = SourceRequest(architecture="lenet5", weights=tmp_path / "lenet.pth", given=given)
    with pytest.raises(SourceError, match="depend on its pooling and activation"):
        load_source(request)
    request = replace(request, options={"pooling": "max", "activation": "relu"})
    source = load_source(request)
    assert source.provenance.architecture == "lenet5"
    picture = torch.rand(1, 1, 32, 32)
    assert torch.equal(source.network(picture), network(picture))


def exported_program(path: Path, batch: torch.export.Dim | None) -> str:
    shapes = None if batch is None else ({0: batch},)
    program = torch.export.export(
        TinyCnn().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=shapes
    )
    torch.export.save(program, path)
    return str(path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_of_torch_export(tmp_path: Path) -> None:
    file = exported_program(tmp_path / "net.pt2", torch.export.Dim("batch"))
    given = GivenDescription(labels=CLASSES, mean=(0.5,), std=(0.5,))
    with pytest.raises(SourceError, match="give --trust-code"):
        load_source(SourceRequest(file, given=given))
    source = load_source(SourceRequest(file, given=given, trust_code=True))
    assert source.preprocessing.output_shape == (16, 16, 3)
    published = publish(source, ModelRepository(tmp_path / "repository"), "net")
    assert published.manifest.parity[-1].top1_agreement == 1
    frozen = exported_program(tmp_path / "frozen.pt2", None)
    with pytest.raises(SourceError, match=r"batches of 2 only: .*torch\.export\.Dim\('batch'\)"):
        load_source(SourceRequest(frozen, given=given, trust_code=True))
    (tmp_path / "damaged.pt2").write_bytes(b"no archive")
    with pytest.raises(SourceError, match=r"cannot be read as a program of torch\.export"):
        load_source(SourceRequest(str(tmp_path / "damaged.pt2"), given=given, trust_code=True))


def test_torchvision_brings_labels_and_preprocessing() -> None:
    source = load_source(SourceRequest("torchvision:squeezenet1_1:random"))
    assert len(source.labels) == len(set(source.labels)) == 1000
    assert source.labels[0] == "tench"
    assert source.preprocessing == Preprocessing(
        resize=ResizeShorterSide(size=256), center_crop=CenterCrop(height=224, width=224)
    )
    assert source.normalization is not None
    assert source.normalization.mean == (0.485, 0.456, 0.406)
    five = load_source(
        SourceRequest("torchvision:squeezenet1_1:random", given=GivenDescription(labels=CLASSES))
    )
    assert five.labels == CLASSES


def test_timm_brings_labels_and_preprocessing() -> None:
    pytest.importorskip("timm")
    source = load_source(SourceRequest("timm:resnet10t:random"))
    assert len(source.labels) == len(set(source.labels)) == 1000
    assert source.labels[0].startswith("tench")
    assert source.preprocessing == Preprocessing(
        resize=ResizeShorterSide(size=201),
        center_crop=CenterCrop(height=176, width=176),
        interpolation="bicubic",
    )


def test_a_checkpoint_says_everything_itself(checkpoint: Path) -> None:
    source = load_source(SourceRequest(str(checkpoint)))
    assert source.provenance.architecture == "lenet5"
    with pytest.raises(SourceError, match="already says what --mean says"):
        load_source(SourceRequest(str(checkpoint), given=GivenDescription(mean=(0.5,))))


def test_evaluation_data_are_put_in_the_order_of_the_labels() -> None:
    labels = ("zero", *"9876543210")
    given = GivenDescription(labels=labels, resize=DESCRIBED.resize, mean=(0.5,), std=(0.5,))
    request = SourceRequest("tests.export.networks:build", data="digits", given=given)
    examples = load_source(request).examples
    assert not isinstance(examples, SamplePictures)
    assert examples.truth.shape == (len(examples), len(labels))
    straight = load_source(
        SourceRequest(
            "tests.export.networks:build",
            data="digits",
            given=GivenDescription(
                labels=tuple("0123456789"), resize=DESCRIBED.resize, mean=(0.5,), std=(0.5,)
            ),
        )
    ).examples
    assert not isinstance(straight, SamplePictures)
    assert (10 - straight.truth.argmax(axis=1) == examples.truth.argmax(axis=1)).all()


NETWORK = "tests.export.networks:build"


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (NETWORK, {"labels": None}, "give --labels"),
        (NETWORK, {"labels": ("a", "b", "a", "c", "b")}, "repeated: a, b: give each class"),
        (NETWORK, {"labels": ("a", "", "b", "c", "d")}, "a label is empty"),
        (NETWORK, {"resize": None}, "give --resize 224x224"),
        (NETWORK, {"resize": ResizeShorterSide(size=20)}, "add a center_crop.*--resize and --crop"),
        (NETWORK, {"std": None}, "give --mean and --std"),
        (NETWORK, {"mean": (0.1, 0.2)}, "--mean has 2 values for 3 channels"),
        (NETWORK, {"std": (0.0,)}, "--std must be positive"),
        ("tests.export.networks:missing", {}, "has no 'missing': it has .*build"),
        ("tests.export.networks:nan_weights.x", {}, "has no"),
        ("tests.export.networks:CLASSES", {}, "gives a tuple: it must return"),
        ("testbed.server:environment", {}, "gives a dict: it must return a torch.nn.Module"),
        ("no.such.module:build", {}, "cannot be imported: ModuleNotFoundError"),
        ("missing.py:build", {}, "missing.py does not exist"),
        ("missing.pt2", {}, "does not exist"),
        ("nowhere", {}, "cannot export nowhere: give a folder"),
        ("torchvision:nonsense", {}, "no classification network 'nonsense'"),
        ("torchvision:alexnet:V9", {}, "use IMAGENET1K_V1, DEFAULT, random"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    source: str, changes: dict[str, object], message: str
) -> None:
    given = GivenDescription(**{**vars(DESCRIBED), **changes})
    with pytest.raises(SourceError, match=message.replace("(", "\\(")):
        load_source(SourceRequest(source, given=given))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SourceRequest(), "nothing to export: give"),
        (SourceRequest(architecture="lenet5"), "give --weights FILE"),
        (SourceRequest("net.py:build", architecture="lenet5"), "not both"),
        (SourceRequest("net.onnx", weights=Path("w.pth")), "leave --weights out"),
        (SourceRequest(NETWORK, data="digits", given=DESCRIBED), "does not know: 0, 1"),
    ],
)
def test_what_does_not_go_together_is_refused(request_: SourceRequest, message: str) -> None:
    with pytest.raises((SourceError, ModelsError), match=re.escape(message)):
        load_source(request_)
