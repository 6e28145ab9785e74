import pytest
import torch

from convd.models import create_model
from convd.models.threads import intra_op_threads, step_flops, threads_for


def test_a_small_network_has_one_thread_and_a_large_one_all() -> None:
    lenet = create_model("lenet5", num_classes=10, in_channels=1)
    assert threads_for(step_flops(lenet, (32, 32, 1), 64), available=64) == 1
    resnet = create_model("resnet50")
    assert threads_for(step_flops(resnet, (224, 224, 3), 64), available=64) == 64
    assert threads_for(10**12, available=2) == 2


def test_the_work_of_a_step_is_counted_without_running_it() -> None:
    network = create_model("resnet18", num_classes=4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    flops = step_flops(network, (64, 64, 3), 16)
    # torchvision publishes 1.814 billion multiplications with additions for 224 x 224.
    published = 2 * 1.814e9 * (64 / 224) ** 2 * 16 * 3
    assert flops == pytest.approx(published, rel=0.02)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), intra_op_threads(1):
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before
