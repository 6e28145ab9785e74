"""Brings a module into the form that is exported: float32, on the CPU, with all its weights."""

import torch
from torch import nn
from torch.ao.quantization.fake_quantize import FakeQuantizeBase
from torch.nn.modules.lazy import LazyModuleMixin

from convd.artifact.manifest import Fact
from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import SourceError

_QUANTIZED = frozenset(("quantized", "torchao", "bitsandbytes"))


def prepare_module(
    network: nn.Module, preprocessing: Preprocessing
) -> tuple[nn.Module, tuple[Fact, ...]]:
    """Cast a module to float32, bring it to the CPU, and initialise lazy layers.

    Args:
        network: The user's module.
        preprocessing: Gives the shape of its input.

    Returns:
        The module, and what was done to it.

    Raises:
        SourceError: It is quantised, or a lazy layer cannot be initialised.
    """
    facts = []
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    for module in network.modules():
        if _QUANTIZED.intersection(type(module).__module__.split(".")) or isinstance(
            module, FakeQuantizeBase
        ):
            raise SourceError(
                f"the network is quantised ({type(module).__name__}): export the float32 network "
                "that it was made of, with --precision int8"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise SourceError(
                "the function returns TorchScript: return the module that it was made of, or write "
                "torch.onnx.export(network, (example,), 'model.onnx', dynamo=False, "
                "dynamic_axes={'x': {0: 'batch'}}, input_names=['x']) and export model.onnx"
            )
    lazy = [name for name, each in network.named_modules() if _is_uninitialised(each)]
    if lazy:
        _initialise(network, preprocessing)
        facts.append(
            Fact(
                subject="weights",
                value=f"{', '.join(lazy)} drawn at random",
                origin="lazy layers, initialised by one forward pass; give --weights FILE",
            )
        )
    floats = {each.dtype for each in network.parameters() if each.is_floating_point()}
    others = sorted(str(dtype).removeprefix("torch.") for dtype in floats - {torch.float32})
    if others:
        network = network.float()
        origin = "convd computes in float32; --precision float16 for a smaller artifact"
        facts.append(Fact(subject="weights", value=f"cast from {others[0]}", origin=origin))
    if any(each.device.type not in ("cpu", "meta") for each in network.parameters()):
        network = network.cpu()
    return network, tuple(facts)


def _is_uninitialised(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _initialise(network: nn.Module, preprocessing: Preprocessing) -> None:
    height, width, channels = preprocessing.output_shape
    training = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, height, width))
    # The network is the user's code: it may raise anything.
    except Exception as error:
        raise SourceError(
            f"the network has lazy layers, and one forward pass with a picture of {height} x "
            f"{width} and {channels} channels fails: {error}"
        ) from error
    for module in network.modules():
        module.training = training.get(module, False)
