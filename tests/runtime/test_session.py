import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from convd.artifact.graph_contract import OUTPUTS
from convd.artifact.precision import Precision
from convd.runtime.cores import CoreBudget, CoreShare
from convd.runtime.cpu import CPU
from convd.runtime.cuda import CUDA
from convd.runtime.errors import SessionError
from convd.runtime.openvino import OPENVINO_BFLOAT16
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS, installed_providers
from convd.runtime.session import Session


def tiny_model(
    ir_version: int = 10, outputs: tuple[str, ...] = ("probabilities", "logits")
) -> bytes:
    """An ONNX file that takes the mean of each channel as its logit."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3])
            for output in outputs
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = ir_version
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("provider", installed_providers(), ids=str)
def test_every_installed_provider_runs_a_network(provider: ExecutionProvider) -> None:
    session = Session(tiny_model(), provider, intra_op_threads=1)
    images = np.random.default_rng(0).integers(0, 4, (5, 2, 2, 3), dtype=np.uint8)
    outputs = session.run(images)
    tolerance = 1e-5 if provider.precision == "float32" else 0.05
    assert np.allclose(outputs.logits, images.mean(axis=(1, 2)), atol=tolerance)
    assert np.allclose(outputs.probabilities.sum(axis=1), 1, atol=tolerance)


def test_a_missing_provider_is_refused_with_what_would_help() -> None:
    for provider in KNOWN_PROVIDERS:
        reason = provider.why_missing()
        if reason is None:
            continue
        with pytest.raises(SessionError, match="cannot be used") as caught:
            Session(tiny_model(), provider)
        assert reason in str(caught.value)


def test_outputs_are_taken_by_name_and_not_by_their_place() -> None:
    session = Session(tiny_model(outputs=("logits", "probabilities")), CPU, intra_op_threads=1)
    assert session.outputs == {OUTPUTS.probabilities: (3,), OUTPUTS.logits: (3,)}
    outputs = session.run(np.full((2, 2, 2, 3), 2, np.uint8))
    assert np.allclose(outputs.logits, 2)
    assert np.allclose(outputs.probabilities, 1 / 3)


def test_a_network_without_an_output_of_the_contract_is_refused() -> None:
    with pytest.raises(SessionError, match="returns probabilities and lacks logits"):
        Session(tiny_model(outputs=("probabilities",)), CPU)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(SessionError, match="is not a valid ONNX file"):
        Session(b"no network", CPU)


def test_a_smaller_network_is_computed_in_its_own_precision() -> None:
    assert CUDA.computes_in("float32") == "float32"
    assert CUDA.computes_in("float16") == "float16"
    for provider in KNOWN_PROVIDERS:
        assert provider.computes_in("int8") == "int8"


@pytest.mark.parametrize(("network", "tf32"), [("float32", "0"), ("int8", "0"), ("float16", "1")])
def test_cuda_computes_float32_in_full_and_leaves_float16_its_tensor_cores(
    network: Precision, tf32: str
) -> None:
    ((_, options),) = CUDA.configure(ort.SessionOptions(), network, 0)
    assert options["use_tf32"] == tf32
    assert "gpu_mem_limit" not in options


def test_bfloat16_has_fewer_digits_than_float16() -> None:
    assert OPENVINO_BFLOAT16.computes_in("float32") == "bfloat16"
    assert OPENVINO_BFLOAT16.computes_in("float16") == "bfloat16"


def test_a_session_asks_for_as_many_cores_as_it_has_threads() -> None:
    budget = CoreBudget(3)
    session = Session(tiny_model(), CPU, intra_op_threads=2, cores=budget)
    assert session.cores == CoreShare(budget, 2)
    with session.turn():
        assert budget.busy == 2
    assert budget.busy == 0


def test_a_small_network_asks_for_one_core() -> None:
    budget = CoreBudget(3)
    session = Session(tiny_model(), CPU, cores=budget)
    assert session.threads == 1
    assert session.cores == CoreShare(budget, 1)
    assert budget.busy == 0


def test_a_session_that_is_alone_asks_for_none() -> None:
    session = Session(tiny_model(), CPU, intra_op_threads=2)
    assert session.cores is None
    with session.turn():
        assert len(session.run(np.zeros((1, 2, 2, 3), np.uint8))[0]) == 1
