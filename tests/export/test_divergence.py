import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convd.export.examination import examine, serving_model
from convd.export.progress import SilentProgress
from convd.export.proof.divergence import Conversion, first_divergence
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import installed_providers
from tests.export.networks import HALF, TinyCnn, trained


@pytest.fixture(scope="module")
def conversion() -> Conversion:
    source = trained(TinyCnn().eval())
    found = examine(source, SilentProgress())
    return Conversion(serving_model(source, found), found.graph, HALF)


@pytest.mark.parametrize("provider", installed_providers(), ids=str)
@pytest.mark.parametrize("layer", ["convolution (Conv)", "linear (Gemm)"])
def test_the_layer_whose_weights_were_altered_is_named(
    layer: str, provider: ExecutionProvider, conversion: Conversion
) -> None:
    altered = onnx.ModelProto()
    altered.CopyFrom(conversion.model)
    name = f"network.{layer.partition(' ')[0]}.weight"
    (weights,) = [one for one in altered.graph.initializer if one.name == name]
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * 1.5, name))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    found = first_divergence(conversion, altered, images, provider)
    assert found is not None
    assert found.startswith(layer)
