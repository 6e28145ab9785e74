"""Every formula of docs/walkthrough.md, against PyTorch and by property."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from bench.walkthrough import formulas, network
from convd.models import create_model
from convd.models.architectures.lenet import POOLINGS

random = np.random.default_rng(0)


def test_the_example_by_hand() -> None:
    found = formulas.convolve(formulas.FIVE_BY_FIVE, formulas.THREE_BY_THREE)
    assert found.tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


@given(
    st.tuples(st.integers(5, 12), st.integers(5, 12)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_convolution_and_the_size_of_its_map(
    size: tuple[int, int], kernel_size: tuple[int, int], stride: int, padding: int
) -> None:
    image, kernel = random.normal(size=size), random.normal(size=kernel_size)
    found = formulas.convolve(image, kernel, stride=stride, padding=padding)
    wanted = F.conv2d(
        torch.from_numpy(image)[None, None],
        torch.from_numpy(kernel)[None, None],
        stride=stride,
        padding=padding,
    )[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found.shape == tuple(
        formulas.output_size(a, b, stride, padding) for a, b in zip(size, kernel_size, strict=True)
    )


def test_filters() -> None:
    flat = np.full((9, 9), 77.0)
    assert not formulas.convolve(flat, formulas.EDGES).any()
    assert np.allclose(formulas.convolve(flat, formulas.SHARPEN), 77)
    assert np.allclose(formulas.convolve(flat, formulas.BLUR), 77)


def test_relu() -> None:
    values = random.normal(size=(4, 5))
    assert np.array_equal(formulas.relu(values), F.relu(torch.from_numpy(values)).numpy())


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("shape", [(4, 4), (7, 6)])
def test_pooling_is_the_networks(kind: str, shape: tuple[int, int]) -> None:
    values = random.normal(size=shape)
    wanted = POOLINGS[kind](2)(torch.from_numpy(values)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(formulas.pool(values, kind), wanted, atol=1e-12)


def test_softmax_and_the_fully_connected_layer() -> None:
    values, weights, bias = (random.normal(size=shape) for shape in ((6,), (4, 6), (4,)))
    tensors = [torch.from_numpy(each) for each in (values, weights, bias)]
    layer = F.linear(*tensors)
    logits = formulas.fully_connected(values, weights, bias)
    np.testing.assert_allclose(logits, layer.numpy(), atol=1e-12)
    np.testing.assert_allclose(formulas.softmax(logits), layer.softmax(0).numpy(), atol=1e-12)


def test_total_error() -> None:
    assert formulas.total_error(np.array([0, 0, 1, 0.0]), np.array([0.2, 0.4, 0.1, 0.3])) == (
        pytest.approx(0.5 * (0.04 + 0.16 + 0.81 + 0.09))
    )


def test_moved() -> None:
    first, second = np.array([[1.0, 0, 0]]), np.array([[0.25, 0.75, 0]])
    assert formulas.moved(first, first) == 0
    assert formulas.moved(first, second) == 0.75


def test_shifted() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert formulas.shifted(image, 1).tolist() == [[0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]
    assert np.array_equal(formulas.shifted(image, 0), image)


def test_gray() -> None:
    picture = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(picture).convert("L"), float)
    assert np.abs(formulas.gray(picture.astype(float)) - wanted).max() < 1


@given(st.integers(0, 3), st.floats(0, 0.5))
def test_cross_entropy(target: int, smoothing: float) -> None:
    logits = random.normal(size=4)
    found = formulas.cross_entropy(formulas.softmax(logits), target, smoothing)
    wanted = F.cross_entropy(
        torch.from_numpy(logits)[None], torch.tensor([target]), label_smoothing=smoothing
    )
    assert found == pytest.approx(float(wanted))


def test_the_loss_of_guessing_and_the_lowest_one() -> None:
    guess = np.full(4, 0.25)
    assert formulas.cross_entropy(guess, 2, network.SMOOTHING) == pytest.approx(np.log(4))
    for other in (guess, np.array([0.97, 0.01, 0.01, 0.01]), np.array([0.9, 0.04, 0.03, 0.03])):
        assert formulas.cross_entropy(other, 0, network.SMOOTHING) > network.lowest_loss()


def test_a_step_goes_against_the_gradient() -> None:
    """Each layer's gradient is as long as the error falls where one goes along it."""
    image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    step = network.one_step(image, "boat", rate=1e-3)
    assert step.before.sum() == pytest.approx(1)
    assert step.error_after < step.error_before
    # To first order, a step falls by its rate times the squared length of the whole gradient.
    fall = 1e-3 * sum(length**2 for length in step.gradients.values())
    assert step.error_before - step.error_after == pytest.approx(fall, rel=0.05)


def test_parameters_and_depth() -> None:
    lenet = create_model("lenet5", num_classes=1000)
    layers = ((6, 3, 5), (16, 6, 5), (120, 16, 5), (84, 120, 1), (1000, 84, 1))
    wanted = sum(formulas.convolution_parameters(*layer) for layer in layers)
    assert sum(each.numel() for each in lenet.parameters()) == wanted
    with torch.device("meta"):
        found = {n: network.depth(create_model(n)) for n in ("lenet5", "alexnet", "vgg11_bn")}
    assert found == {"lenet5": 5, "alexnet": 8, "vgg11_bn": 11}
