import numpy as np
import onnxruntime
import pytest
import torch

from convd.artifact.manifest import Normalization
from convd.models.normalization import NormalizeImages

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_it_scales_subtracts_divides_and_moves_channels_first() -> None:
    image = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    x = NormalizeImages(IMAGENET)(image)
    assert x.shape == (1, 3, 1, 1)
    assert x.dtype == torch.float32
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(x.flatten(), torch.tensor(expected))


def test_it_holds_no_weights() -> None:
    assert not NormalizeImages(IMAGENET).state_dict()


# torch's own exporter trips over its own deprecation.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_it_exports_with_a_dynamic_batch() -> None:
    normalize = NormalizeImages(IMAGENET).eval()
    example = torch.zeros(2, 5, 7, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        normalize,
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch in (1, 4):
        images = np.random.default_rng(batch).integers(0, 256, (batch, 5, 7, 3), np.uint8)
        (answer,) = session.run(None, {session.get_inputs()[0].name: images})
        expected = normalize(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(answer, expected, atol=1e-6)
