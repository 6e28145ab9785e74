"""Files that convd does not read are recognised by their bytes, with the command that helps."""

import errno
import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from convd.artifact.repository import ModelRepository
from convd.commands.export import command
from convd.export.errors import SourceError
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from convd.export.sources.modules import prepare_module
from convd.models.errors import ModelsError
from convd.models.weights import load_weights
from tests.export.networks import CLASSES, SIZE, TinyCnn


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script: Any = torch.jit
        traced = script.trace(TinyCnn().eval(), torch.zeros(1, 3, 16, 16))
        script.save(traced, buffer)
    return buffer.getvalue()


def pickled_module() -> bytes:
    buffer = io.BytesIO()
    torch.save(TinyCnn(), buffer)
    return buffer.getvalue()


def keras() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    return buffer.getvalue()


STRANGERS = [
    ("model.onnx", b"", "is empty"),
    ("model.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ("weights.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ("model.onnx", b"<!DOCTYPE html><html>", "is a web page"),
    ("model.h5", b"\x89HDF\r\n\x1a\n0000", "tf2onnx.convert --keras"),
    ("model.keras", keras(), "tf2onnx.convert --keras"),
    ("model.tflite", b"\x1c\0\0\0TFL3\0\0", "tf2onnx.convert --tflite"),
    ("model.pt", torchscript(), r"torch\.onnx\.export\(torch\.jit\.load"),
    ("model.pt", pickled_module(), r"is a pickled network.*state_dict"),
    ("model.pkl", pickle.dumps(nn.Linear(2, 3)), "is a pickled network"),
    ("model.pkl", pickle.dumps({"conv.weight": [1.0]}), r"is a Python pickle.*state_dict"),
    ("model.pickle", b"\x80\x04\x95\x10\0", r"is a Python pickle.*--weights weights\.pth"),
    ("model.engine", b"ftrt0000", "export the ONNX file"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "data", "message"), STRANGERS)
def test_a_stranger_is_recognised(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        load_source(SourceRequest(str(tmp_path / name)))
    if not name.endswith(".onnx"):
        with pytest.raises(ModelsError, match=message):
            load_weights(tmp_path / name)


def test_folders_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    with pytest.raises(SourceError, match="--saved-model"):
        load_source(SourceRequest(str(tmp_path / "saved")))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"config\.json without model_type"):
        load_source(SourceRequest(str(tmp_path / "hub")))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    with pytest.raises(SourceError, match="merge_and_unload"):
        load_source(SourceRequest(str(tmp_path / "adapter")))


def test_weights_alone_and_a_file_without_a_function(tmp_path: Path) -> None:
    torch.save(TinyCnn().state_dict(), tmp_path / "W.PTH")
    with pytest.raises(SourceError, match="weights alone do not say what network"):
        load_source(SourceRequest(str(tmp_path / "W.PTH")))
    assert load_weights(tmp_path / "W.PTH").tensors.keys() == TinyCnn().state_dict().keys()
    (tmp_path / "net.py").write_text("def make():\n    pass\nclass Net:\n    pass\n")
    with pytest.raises(SourceError, match=r"such as .*net\.py:make; it has make, Net"):
        load_source(SourceRequest(str(tmp_path / "net.py")))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_precision_is_cast_and_that_is_said(dtype: torch.dtype) -> None:
    network, facts = prepare_module(TinyCnn().to(dtype).eval(), SIZE)
    assert {each.dtype for each in network.parameters()} == {torch.float32}
    (fact,) = facts
    assert fact.value == f"cast from {str(dtype).removeprefix('torch.')}"


def test_lazy_layers_are_initialised_by_one_forward(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.LazyConv2d(4, 3), "
        "nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()\n"
    )
    given = GivenDescription(labels=CLASSES, resize=SIZE.resize, mean=(0.5,), std=(0.5,))
    source = load_source(SourceRequest(f"{tmp_path}/net.py:build", given=given))
    assert source.network(torch.zeros(1, 3, 16, 16)).shape == (1, 5)
    assert any(fact.value == "0 drawn at random" for fact in source.facts)
    assert not any(module.training for module in source.network.modules())


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ModelRepository, "publish", full)
    words = f"tests.export.networks:build --name net --repository {tmp_path} --resize 16x16"
    words += " --mean 0.5 --std 0.5 --labels a,b,c,d,e"
    done = CliRunner().invoke(command, words.split())
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].endswith("No space left on device; nothing was published")
    assert not list((tmp_path / "net").iterdir())
