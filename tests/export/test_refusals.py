"""What must not be published is refused, with the reason and what would help."""

import os
from pathlib import Path

import pytest
from torch import nn

from convd.artifact.repository import ModelRepository
from convd.export.errors import ExportError, ParityError
from convd.export.publication import publish
from tests.export import networks
from tests.export.networks import TinyCnn, trained


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            networks.FrozenByView().eval(),
            r"batches of 3 but not of 7.*frozen at networks\.py:\d+: .*view\(3, 8\)",
        ),
        (networks.FrozenByInt().eval(), r"networks\.py:\d+: count = int\(x\.shape\[0\]\)"),
        (networks.FrozenByLoop().eval(), r"networks\.py:\d+: rows = \[.* for one in x\]"),
        (networks.AnswersChooseTheCode().eval(), r"write torch\.where instead of if"),
        (networks.DropoutLeftOn().eval(), r"write F\.dropout\(x, p, training=self\.training\)"),
        (networks.BatchStatistics().eval(), "track_running_stats=True"),
        (networks.FeatureMaps().eval(), "one row of 5 outputs for each"),
        (
            networks.WithAuxiliaryOutput().eval(),
            "a tuple with 2 tensors that could be its outputs",
        ),
        (networks.nan_weights(), "linear.weight hold NaN"),
        (TinyCnn(num_classes=4).eval(), "has 4 outputs, but there are 5 labels: give --labels"),
        (
            TinyCnn(in_channels=1).eval(),
            "with 1 channel, not 3: give --channel-order L",
        ),
        (
            nn.Sequential(TinyCnn(), nn.Dropout()),
            r"1 \(Dropout\) is in training mode.*call network\.eval\(\)",
        ),
        (TinyCnn(), "is in training mode"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_network_that_cannot_be_served_is_refused(
    network: nn.Module, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        publish(trained(network), ModelRepository(tmp_path), "net")
    assert os.listdir(tmp_path / "net") == []


def test_a_network_with_other_answers_is_refused_with_the_first_layer(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"first layer where they part is .*rand_like"):
        publish(trained(networks.SlightlyRandom().eval()), ModelRepository(tmp_path), "net")
    assert os.listdir(tmp_path / "net") == []
