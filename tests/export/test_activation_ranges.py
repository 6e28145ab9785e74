import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import numpy_helper

from convd.artifact.graph_contract import OUTPUTS
from convd.export.activation_ranges import (
    RANGE_METHODS,
    Activations,
    entropy_threshold,
    observe,
)
from convd.export.examination import examine, serving_model
from convd.export.progress import SilentProgress
from convd.export.quantization import OPERATORS, prepare
from convd.export.range_choice import quantize
from convd.runtime.cpu import CPU
from convd.runtime.session import Session
from tests.export.digits import ClassMeans, trained_on_digits

FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def activations(samples: NDArray[np.float32]) -> Activations:
    return Activations(samples.min(), samples.max(), samples)


@given(arrays.arrays(np.float32, st.integers(1, 300), elements=FLOATS))
def test_no_range_is_wider_than_what_was_seen(samples: NDArray[np.float32]) -> None:
    seen = activations(samples)
    for method in RANGE_METHODS:
        low, high = seen.range_by(method)
        assert seen.lowest <= low <= high <= seen.highest


def test_one_outlier_among_many_values_is_clipped_by_all_but_minmax() -> None:
    values = np.random.default_rng(0).random(100_000, np.float32)
    seen = activations(np.append(values, np.float32(100.0)))
    assert seen.range_by("minmax")[1] == 100
    assert seen.range_by("percentile")[1] < 1.1
    assert seen.range_by("entropy")[1] < 30


def test_evenly_spread_values_are_not_clipped() -> None:
    values = np.linspace(0, 1, 100_001, dtype=np.float32)
    assert entropy_threshold(values) == pytest.approx(1.0, abs=0.02)


def test_an_activation_that_is_always_zero_has_a_range() -> None:
    seen = activations(np.zeros(10, np.float32))
    for method in RANGE_METHODS:
        low, high = seen.range_by(method)
        assert low == high == 0


@pytest.fixture(scope="module")
def digits() -> tuple[onnx.ModelProto, NDArray[np.uint8]]:
    source = trained_on_digits(ClassMeans())
    shape = (24, *source.preprocessing.output_shape)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return serving_model(source, examine(source, SilentProgress())), pictures


def test_extremes_are_exact_however_few_values_are_kept(
    digits: tuple[onnx.ModelProto, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, pictures = digits
    prepared = prepare(model)
    whole = observe(prepared, pictures, OPERATORS)
    monkeypatch.setattr("convd.export.activation_ranges._SAMPLES_BYTES", 0)
    monkeypatch.setattr("convd.export.activation_ranges._SMALLEST_SAMPLE", 2)
    few = observe(prepared, pictures, OPERATORS)
    for name, seen in whole.items():
        assert few[name].range_by("minmax") == seen.range_by("minmax")
        assert len(few[name].samples) <= 2 * len(pictures)


def test_the_published_network_is_the_one_with_the_least_noise(
    digits: tuple[onnx.ModelProto, NDArray[np.uint8]],
) -> None:
    model, pictures = digits
    chosen = quantize(model, pictures[:16], pictures[16:])
    assert set(chosen.signal_to_noise_db) == set(RANGE_METHODS)
    assert chosen.signal_to_noise_db[chosen.method] == max(chosen.signal_to_noise_db.values())
    exact, rounded = (
        Session(each.SerializeToString(), CPU).run(pictures[16:]).logits
        for each in (model, chosen.model)
    )
    ratio = np.square(exact).sum() / np.square(exact - rounded).sum()
    assert chosen.signal_to_noise_db[chosen.method] == pytest.approx(10 * np.log10(ratio), abs=0.5)


def test_ranges_reach_the_graph(digits: tuple[onnx.ModelProto, NDArray[np.uint8]]) -> None:
    model, pictures = digits
    graph = quantize(model, pictures[:16], pictures[16:]).model.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    steps = [
        float(constants[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"
    ]
    assert steps
    assert all(0 < step < 1e3 for step in steps)
    assert OUTPUTS.logits.name in {output.name for output in graph.output}
