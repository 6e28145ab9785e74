"""A network that does not look at its pictures is refused, with what is suspicious."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convd.artifact.manifest import Normalization
from convd.artifact.preprocessing import Preprocessing, ResizeTo
from convd.artifact.repository import ModelRepository
from convd.export.errors import BlindNetworkError
from convd.export.publication import publish
from tests.export.endings import Ending
from tests.export.networks import HALF, TinyCnn, trained


class Decided(nn.Module):
    """Holds a network whose answers differ clearly from picture to picture."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyCnn()
        with torch.no_grad():
            self.network.linear.weight.mul_(3)
        self.eval()


class FromBytes(Decided):
    """Scales pixels by itself, as Keras networks with a Rescaling layer do."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x / 127.5 - 1)
        return logits


class LargeStride(Decided):
    """Sees only zeros in pictures that are too small."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(nn.functional.pad(x[:, :, 24:, 24:], (8, 8, 8, 8)))
        return logits


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = TinyCnn()
        with torch.no_grad():
            self.network.linear.weight.zero_()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def refusal(network: nn.Module, tmp_path: Path, **changes: Any) -> str:
    source = replace(trained(network), **changes)
    with pytest.raises(BlindNetworkError) as refused:
        publish(source, ModelRepository(tmp_path), "net")
    assert not list((tmp_path / "net").iterdir())
    return str(refused.value)


def test_pixels_that_are_255_times_too_small(tmp_path: Path) -> None:
    text = refusal(FromBytes(), tmp_path, normalization=Normalization(mean=(0,) * 3, std=(1,) * 3))
    assert "no probability changes by more than" in text
    assert "with --mean 0 --std 0.00392157 (pixels from 0 to 255, which the network" in text


def test_a_std_that_hides_the_picture(tmp_path: Path) -> None:
    dark = Normalization(mean=(120.0,) * 3, std=(58.0,) * 3)
    text = refusal(Ending(5, nn.Identity()), tmp_path, normalization=dark)
    assert "--mean and --std are suspicious: with --mean 0 --std 1 (pixels from 0 to 1)" in text


def test_weights_that_look_at_nothing(tmp_path: Path) -> None:
    assert "its weights are untrained" in refusal(Constant(), tmp_path)


def test_a_size_that_shows_nothing(tmp_path: Path) -> None:
    recipe = Preprocessing(resize=ResizeTo(height=24, width=24))
    text = refusal(LargeStride(), tmp_path, preprocessing=recipe, normalization=HALF)
    assert "with pictures of 48 x 48 it looks" in text


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Identity()], ids=["sigmoid", "logits"])
def test_every_kind_of_output_is_looked_at(end: nn.Module, outputs: int, tmp_path: Path) -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = Ending(outputs, end)

        def forward(self, x: Tensor) -> object:
            return self.network(x * 1e-4 + 0.3)

    labels = ("cat", "dog") if outputs == 1 else tuple("abcde")
    text = refusal(Blind().eval(), tmp_path, labels=labels)
    assert "does not look at its pictures" in text


def test_what_is_known_to_be_untrained_may_be_tried_out(tmp_path: Path) -> None:
    source = replace(trained(Constant()), is_untrained=True)
    published = publish(source, ModelRepository(tmp_path), "net")
    assert published.manifest.probability_change == pytest.approx(0, abs=1e-6)


def test_the_card_says_how_much_it_looks(tmp_path: Path) -> None:
    published = publish(trained(Ending(5, nn.Identity())), ModelRepository(tmp_path), "net")
    change = published.manifest.probability_change
    assert change is not None
    assert change > 0.05
    card = (published.path / "MODEL_CARD.md").read_text()
    assert f"a probability changes by up to {change:.2g}" in card
    assert "The recipe is unproved" in card
