"""Every formula of docs/walkthrough.md, against PyTorch and by property."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from bench.walkthrough import formulas
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
