import functools
import pkgutil

import pytest
import torch
from torch import nn

from convd.models import architectures, create_model, list_models
from convd.models.losses import HasAuxiliaryClassifiers
from convd.models.registry import find_architecture
from tests.models.torchvision_oracle import NAMES, torchvision_model


def test_every_architecture_is_there() -> None:
    assert list_models() == sorted(["lenet5", "zfnet", *NAMES])


def test_a_file_is_all_that_an_architecture_needs() -> None:
    files = {module.name for module in pkgutil.iter_modules(architectures.__path__)}
    registered = set()
    for name in list_models():
        build = find_architecture(name).build
        kind = build.func if isinstance(build, functools.partial) else build
        registered.add(kind.__module__.rpartition(".")[2])
    assert files == registered


def test_names_in_checkpoints_find_their_architecture() -> None:
    """Names that saved checkpoints hold: renaming a file or a class must not change them."""
    for name, kind in (
        ("lenet5", "LeNet5"),
        ("lenet", "LeNet5"),
        ("alexnet", "AlexNet"),
        ("zfnet", "ZFNet"),
        ("googlenet", "GoogLeNet"),
        ("vgg16_bn", "VGG"),
        ("resnet50", "ResNet"),
        ("densenet121", "DenseNet"),
    ):
        with torch.device("meta"):
            assert type(create_model(name)).__name__ == kind


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_weights_load_and_answer_alike(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision_model(name)
    with torch.device("meta"):
        ours = create_model(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        difference = (ours(x) - theirs(x)).abs().max().item()
        assert difference <= 1e-5
        assert theirs(x).std() > 1e-5


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("alexnet", 61.1),
        ("zfnet", 62.4),
        ("vgg11", 132.9),
        ("vgg13", 133.0),
        ("vgg16", 138.4),
        ("vgg19", 143.7),
        ("resnet18", 11.7),
        ("resnet34", 21.8),
        ("resnet50", 25.6),
        ("resnet101", 44.5),
        ("resnet152", 60.2),
        ("densenet121", 8.0),
        ("densenet161", 28.7),
        ("densenet169", 14.1),
        ("densenet201", 20.0),
    ],
)
def test_it_has_the_published_number_of_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        assert round(_parameters(create_model(name)) / 1e6, 1) == millions


def test_googlenet_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        alone = create_model("googlenet", auxiliary_classifiers=False)
        both = create_model("googlenet")
    assert round(_parameters(alone) / 1e6, 1) == 6.6
    assert round(_parameters(both) / 1e6, 1) == 13.0


@pytest.mark.parametrize("name", list_models())
def test_shapes_at_the_published_and_the_smallest_size(name: str) -> None:
    architecture = find_architecture(name)
    with torch.device("meta"):
        colour = create_model(name, num_classes=7).eval()
        assert colour(torch.empty(2, 3, *[architecture.input_size] * 2)).shape == (2, 7)
        gray = create_model(name, num_classes=5, in_channels=1)
        assert gray(torch.empty(2, 1, *[architecture.minimum_input_size] * 2)).shape == (2, 5)


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "zfnet", "vgg11"])
def test_a_smaller_size_leaves_nothing_to_classify(name: str) -> None:
    size = find_architecture(name).minimum_input_size - 1
    with torch.device("meta"), pytest.raises(RuntimeError, match=r"too small|greater than actual"):
        create_model(name)(torch.empty(2, 3, size, size))


def test_zfnet_has_the_papers_feature_maps() -> None:
    sizes = []
    with torch.device("meta"):
        network = create_model("zfnet")
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                module.register_forward_hook(lambda _m, _i, output: sizes.append(output.shape[-1]))
        network(torch.empty(1, 3, 224, 224))
    assert sizes == [110, 55, 26, 13, 13, 13, 13, 6]


def test_googlenets_auxiliaries_are_for_training_only() -> None:
    network = create_model("googlenet", num_classes=4).eval()
    assert isinstance(network, HasAuxiliaryClassifiers)
    x = torch.randn(2, 3, 64, 64)
    logits, auxiliaries = network.forward_with_auxiliaries(x)
    assert torch.equal(network(x), logits)
    assert [each.shape for each in auxiliaries] == [(2, 4), (2, 4)]
    alone = create_model("googlenet", num_classes=4, auxiliary_classifiers=False)
    assert isinstance(alone, HasAuxiliaryClassifiers)
    assert alone.forward_with_auxiliaries(x)[1] == []


def _parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())
