"""torchvision's networks, to compare ours with.

PyPI's torchvision is built against CUDA and does not find its compiled operators beside a CPU
build of torch. The networks need none of them, but importing the package does need their
declarations.
"""

import torch
from torch import nn

_OPERATORS = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
)
for _declaration in _DECLARATIONS:
    _OPERATORS.define(_declaration)  # type: ignore[no-untyped-call]

import torchvision.models  # noqa: E402

NAMES = (
    "alexnet",
    "googlenet",
    *(f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
)


def torchvision_model(name: str) -> nn.Module:
    """Its network with 1,000 classes and random weights, in eval mode."""
    options: dict[str, object] = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        network = torchvision.models.get_model(name, **options)
    assert isinstance(network, nn.Module)
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = (6 / module.weight[0].numel()) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            # Statistics as training would leave them; fresh ones would hide a swapped pair.
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.8, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network.eval()
