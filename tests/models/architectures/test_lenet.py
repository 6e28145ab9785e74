import pytest
import torch

from convd.models import create_model
from convd.models.architectures.lenet import LeNet5, ScaledTanh, SumPool2d
from convd.models.errors import ArchitectureOptionError


def test_it_has_the_published_number_of_parameters() -> None:
    network = create_model("lenet5", num_classes=10, in_channels=1)
    assert sum(each.numel() for each in network.parameters()) == 61_706


def test_sum_pooling_adds_up_each_window() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert SumPool2d(2)(x).tolist() == [[[[10.0, 18.0], [42.0, 50.0]]]]


def test_the_papers_tanh_is_one_at_one() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(ScaledTanh()(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pooling", ["max", "average", "sum"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_it_gives_one_row_of_logits_per_picture(pooling: str, activation: str) -> None:
    network = create_model(
        "lenet5", num_classes=4, in_channels=1, pooling=pooling, activation=activation
    )
    assert network(torch.rand(3, 1, 32, 32)).shape == (3, 4)


def test_poolings_differ() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 1, 32, 32)
    networks = {name: create_model("lenet5", in_channels=1, pooling=name) for name in _POOLINGS}
    weights = networks["max"].state_dict()
    for network in networks.values():
        network.load_state_dict(weights)
    answers = [network(x) for network in networks.values()]
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])


@pytest.mark.parametrize("option", ["pooling", "activation"])
def test_a_value_that_is_unknown_names_the_known_ones(option: str) -> None:
    with pytest.raises(ArchitectureOptionError, match=f"no {option} 'min': choose one of"):
        LeNet5(**{option: "min"})  # type: ignore[arg-type]


_POOLINGS = ("max", "average", "sum")
