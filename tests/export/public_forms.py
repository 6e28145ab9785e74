"""What engineers have: the commonest public forms of a trained network, with its own answers."""

import argparse
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from PIL import Image
from torch import nn

from convd.export.errors import SourceError
from convd.export.sources.loading import SourceRequest, load_source
from convd.models.installed_library import import_library
from tests.export.networks import CLASSES
from tests.export.sources.test_folders import save_resnet
from tests.export.sources.test_onnx_forms import fixed, of_custom_vision, of_type, old
from tests.export.test_onnx_source import foreign_model, softmax_of

Row = NDArray[np.floating[Any]]
Answer = Callable[[Image.Image], Row]
"""From a picture to the probabilities that the original gives it, `[classes]`."""

NET = """from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()
"""
LABELS = {"--labels": ",".join(CLASSES)}
SCALED = {"--mean": "0.5", "--std": "0.25"}
SIZE = {"--resize": "16x16"}


@dataclass(frozen=True)
class PublicForm:
    """A form in which a trained network is found.

    Attributes:
        have: What it is, in the guide's words.
        typed: What comes behind `convd export` in the folder with the files.
        make: Writes the files into the folder that it runs in, and returns the original's answers.
        asked: What has to be said, by flag.
    """

    have: str
    typed: str
    make: Callable[[], Answer]
    asked: Mapping[str, str] = field(default_factory=dict)

    def words(self, without: str | None = None) -> list[str]:
        """What is typed, but for one of the flags."""
        flags = [f"{flag} {value}" for flag, value in self.asked.items() if flag != without]
        return " ".join([self.typed, *flags]).split()


def _file(
    model: ModelProto,
    *,
    mean: float = 0.5,
    std: float = 0.25,
    order: tuple[int, int, int] = (0, 1, 2),
) -> Answer:
    """Save a file; a plain session of it answers."""
    onnx.save(model, "model.onnx")
    session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    given = next(each for each in session.get_inputs() if each.name == "input")
    dtype = np.float16 if given.type == "tensor(float16)" else np.float32
    ends_in_softmax = any(node.op_type == "Softmax" for node in model.graph.node)

    def answer(picture: Image.Image) -> Row:
        pixels = ((np.array(picture)[:, :, order] / 255 - mean) / std).astype(dtype)
        if given.shape[3] != 3:
            pixels = pixels.transpose(2, 0, 1)
        found = session.run(None, {"input": pixels[None]})[-1]
        if isinstance(found, list):
            return np.array([found[0][label] for label in CLASSES])
        row: Row = np.asarray(found)[0].astype(np.float32)
        return row if ends_in_softmax else softmax_of(row[None])[0]

    return answer


def trained_module() -> nn.Module:
    """The network of `net.py`, trained."""
    Path("net.py").write_text(NET)
    scope: dict[str, Any] = {}
    exec(NET, scope)  # noqa: S102
    torch.manual_seed(5)
    network: nn.Module = scope["build"]()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def answers(network: nn.Module, prepare: Callable[[Image.Image], torch.Tensor]) -> Answer:
    def answer(picture: Image.Image) -> Row:
        with torch.inference_mode():
            found = network(prepare(picture)[None])
        logits = getattr(found, "logits", found)
        row: Row = logits.softmax(dim=1)[0].numpy()
        return row

    return answer


def scaled(picture: Image.Image) -> torch.Tensor:
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 - 0.5) / 0.25


def lightning() -> Answer:
    network = trained_module()
    weights = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(
        {
            "state_dict": weights | {"criterion.weight": torch.ones(5)},
            "epoch": 9,
            "global_step": 300,
            "pytorch-lightning_version": "2.5.0",
            "hyper_parameters": {"lr": 0.1},
            "optimizer_states": [{"state": {}, "param_groups": [{"lr": np.float64(0.1)}]}],
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
        },
        "last.ckpt",
    )
    return answers(network, scaled)


def _timm(**options: Any) -> Any:
    timm = import_library("timm")
    network = timm.create_model("test_resnet", num_classes=5, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return network


def _timm_answers(network: Any, mode: str) -> Answer:
    data = import_library("timm").data
    config = data.resolve_input_data_config(network)
    transform = data.create_transform(**config, is_training=False)
    return answers(network, lambda picture: transform(picture.convert(mode)))


def timm_ema() -> Answer:
    torch.manual_seed(6)
    averaged, last = _timm(), _timm()
    torch.save(
        {
            "epoch": 3,
            "arch": "test_resnet",
            "state_dict": last.state_dict(),
            "state_dict_ema": averaged.state_dict(),
            "metric": np.float64(71.5),
            "args": argparse.Namespace(lr=0.1, model="test_resnet"),
        },
        "model_best.pth.tar",
    )
    return _timm_answers(averaged, "RGB")


def timm_one_channel() -> Answer:
    torch.manual_seed(7)
    network = _timm(in_chans=1)
    torch.save(network.state_dict(), "weights.pth")
    return _timm_answers(network, "L")


def transformers_folder() -> Answer:
    settings: dict[str, Any] = {"image_processor_type": "ConvNextImageProcessor"}
    settings |= {"size": {"shortest_edge": 32}, "crop_pct": 0.875}
    network = save_resnet(Path("pets"), settings)
    auto = import_library("transformers").AutoImageProcessor
    processor = auto.from_pretrained("pets", backend="pil")
    return answers(
        network,
        lambda picture: torch.from_numpy(processor(picture, return_tensors="np").pixel_values[0]),
    )


def torchscript() -> Answer:
    """The refusal's own command turns the file into one that is taken."""
    network = trained_module()
    script: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script.save(script.trace(network, torch.zeros(1, 3, 16, 16)), "model.pt")
        with pytest.raises(SourceError) as refused:
            load_source(SourceRequest("model.pt"))
        command = re.search(r"torch\.onnx\.export\(.*\]\)", str(refused.value))
        assert command is not None, str(refused.value)
        example = torch.zeros(1, 3, 16, 16)
        eval(command[0], {"torch": torch, "FILE": "model.pt", "example": example})  # noqa: S307
    return answers(network, scaled)


PUBLIC_FORMS = {
    "fixed-batch": PublicForm(
        "ONNX with a fixed batch, as PyTorch exports it",
        "model.onnx",
        lambda: _file(fixed(1)),
        LABELS | SCALED,
    ),
    "opset-9": PublicForm(
        "ONNX of 2019: operator set 9, IR version 3",
        "model.onnx",
        lambda: _file(old(9)),
        LABELS | SCALED,
    ),
    "float16": PublicForm(
        "ONNX in float16",
        "model.onnx",
        lambda: _file(of_type(TensorProto.FLOAT16, inside=True)),
        LABELS | SCALED,
    ),
    "keras": PublicForm(
        "ONNX of a Keras network (tf2onnx), channels last",
        "model.onnx",
        lambda: _file(foreign_model(layout="NHWC", softmax="operator", batch="unk__7")),
        LABELS | SCALED,
    ),
    "zipmap": PublicForm(
        "ONNX of Custom Vision, with a ZipMap and metadata",
        "model.onnx",
        lambda: _file(of_custom_vision(), mean=0, std=1 / 255, order=(2, 1, 0)),
    ),
    "lightning": PublicForm(
        "a checkpoint of Lightning, with a criterion in it",
        "net.py:build --weights last.ckpt",
        lightning,
        LABELS | SIZE | SCALED,
    ),
    "timm-ema": PublicForm(
        "a checkpoint of timm's train.py, with averaged weights (EMA)",
        "timm:test_resnet:random --weights model_best.pth.tar",
        timm_ema,
        LABELS,
    ),
    "transformers": PublicForm(
        "a folder of transformers (`save_pretrained`)", "pets", transformers_folder
    ),
    "timm-one-channel": PublicForm(
        "weights of a one-channel network of timm",
        "timm:test_resnet:random --weights weights.pth",
        timm_one_channel,
        LABELS | {"--channel-order": "L"},
    ),
    "torchscript": PublicForm(
        "TorchScript (`torch.jit.save`), by the command that the refusal prints",
        "model.onnx",
        torchscript,
        LABELS | SCALED,
    ),
}
"""The ten commonest, each of which is exported and asked over gRPC."""
