"""A network that fails is refused with one cause, found by trying, and with what mends it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convd.artifact.repository import ModelRepository
from convd.export.errors import ConversionError, SourceError
from convd.export.publication import publish
from convd.export.sources.modules import prepare_module
from convd.export.sources.python_callable import build_network
from tests.export.networks import SIZE, TinyCnn, trained


class Doing(TinyCnn):
    """Does something to its input and its logits."""

    def __init__(
        self,
        before: Callable[[Tensor], Any] = lambda x: x,
        after: Callable[[Tensor], Any] = lambda x: x,
    ) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.after(super().forward(self.before(x)))


def first_of_a_dict(batch: Any) -> Any:
    return batch["image"]


class ViewsOnePicture(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.view(1, -1)
        return self.classify(x)


class TakesTwo(TinyCnn):
    def forward(self, x: Tensor, metadata: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + metadata


class Autocast(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class OneAtATime(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 1
        return super().forward(x)


class Chooses(TinyCnn):
    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 2:
            x = x / 255
        return super().forward(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ViewsOnePicture().eval(), r"frozen at test_one_cause\.py:\d+: x = x\.view\(1, -1\)"),
        (Doing(after=lambda x: x.squeeze()), r"one picture at .*x\.squeeze\(\).*x\.flatten\(1\)"),
        (Doing(after=lambda x: x.squeeze(0)), r"drops the dimension of the batch"),
        (Doing(lambda x: x.cuda()), r"asks for a GPU at .*leave \.cuda\(\)"),
        (Doing(lambda x: x + torch.ones(1, device="cuda:0")), "asks for a GPU at"),
        (Doing(lambda x: x.half()), r"mixes precisions .*leave \.half\(\)"),
        (Doing(lambda x: x.double()), r"mixes precisions"),
        (Doing(first_of_a_dict), r"does not take a tensor \[batch, channels"),
        (Doing(lambda x: torch.stack(x)), r"does not take a tensor"),  # type: ignore[arg-type]
        (Doing(lambda x: x.permute(0, 3, 1, 2)), r"channels last: .*x\.permute\(0, 2, 3, 1\)"),
        (TakesTwo().eval(), "forward takes 'metadata' besides the picture"),
        (Autocast().eval(), r"under torch\.autocast at test_one_cause\.py:\d+"),
        (OneAtATime().eval(), r"assert len\(x\) == 1 .*: let it take any number of pictures"),
        (Chooses().eval(), r"chooses the code that runs at test_one_cause\.py:\d+"),
    ],
)
def test_the_cause_is_named_with_its_line(network: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message) as refused:
        publish(trained(network), ModelRepository(tmp_path), "net")
    said = str(refused.value)
    assert "\n" not in said
    assert " --" not in said.replace("--precision float16", "")
    assert not any(word in said for word in ("ONNXRuntimeError", "unhinted", "GraphModule"))


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization: Any = torch.ao.quantization
        made: nn.Module = quantization.quantize_dynamic(TinyCnn().eval(), {nn.Linear})
        return made


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script: Any = torch.jit
        made: nn.Module = script.trace(TinyCnn().eval(), torch.zeros(1, 3, 16, 16))
        return made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (quantised, "is quantised .*export the float32 network"),
        (traced, r"returns TorchScript: .*torch\.onnx\.export"),
    ],
)
def test_a_module_of_another_kind_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        prepare_module(make(), SIZE)


def test_a_wrapper_for_several_gpus_is_taken_off() -> None:
    network = TinyCnn().eval()
    assert prepare_module(nn.DataParallel(network), SIZE)[0] is network


def test_a_network_built_on_a_gpu_is_told_how_to_build_it(tmp_path: Path) -> None:
    file = tmp_path / "on_gpu.py"
    file.write_text("from torch import nn\ndef build():\n    return nn.Linear(2, 2).cuda()\n")
    with pytest.raises(SourceError, match=r"build it on the CPU: no \.cuda\(\)"):
        build_network(f"{file}:build")
