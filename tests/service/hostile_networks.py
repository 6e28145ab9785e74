"""Networks that take time or memory without bound, made from a published tiny model."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from testbed.variants import update_checksums

FOREVER = 2**62


def _alter(
    version: Path, insert: Callable[[str], Sequence[NodeProto]], **constants: object
) -> None:
    """Let the logits pass through further nodes, which read a name and give `altered`."""
    path = version / "model.onnx"
    network = onnx.load(path)
    nodes = list(network.graph.node)
    softmax = next(node for node in nodes if node.op_type == "Softmax")
    further = insert(softmax.input[0])
    softmax.input[0] = "altered"
    del network.graph.node[:]
    network.graph.node.extend([*nodes[:-1], *further, nodes[-1]])
    network.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.save(network, path)
    update_checksums(version)


def _loop(turns: str, carried: str) -> NodeProto:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["carried"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", [turns, "yes", carried], ["altered"], body=body)


def loop_for_ever(version: Path) -> None:
    """A loop of 2^62 turns."""
    _alter(version, lambda logits: [_loop("turns", logits)], turns=np.int64(FOREVER), yes=True)


def loop_on_white(version: Path) -> None:
    """A loop of 2^62 turns for a picture that is all white, and of one for any other."""

    def insert(logits: str) -> list[NodeProto]:
        return [
            helper.make_node("ReduceMin", ["values"], ["darkest"], keepdims=0),
            helper.make_node("Equal", ["darkest", "white"], ["is_white"]),
            helper.make_node("Where", ["is_white", "many", "one"], ["turns"]),
            _loop("turns", logits),
        ]

    _alter(
        version,
        insert,
        white=np.float32(255),
        many=np.int64(FOREVER),
        one=np.int64(1),
        yes=True,
    )


def _add_sum_of(logits: str, filled: str) -> list[NodeProto]:
    """Add what is all zeros, so that the answers stay the same."""
    return [
        helper.make_node("ReduceMax", [filled], ["largest"], keepdims=0),
        helper.make_node("Add", [logits, "largest"], ["altered"]),
    ]


def fill_constant(version: Path, gigabytes: int = 12) -> None:
    """ConstantOfShape: ONNX Runtime computes it while it loads the network."""
    _alter(
        version,
        lambda logits: [
            helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
            *_add_sum_of(logits, "filled"),
        ],
        shape=np.array([gigabytes, 1 << 28], np.int64),
    )


def fill_by_batch(version: Path, gigabytes: int = 12) -> None:
    """A shape that depends on the batch, so that the memory is taken by the first run."""

    def insert(logits: str) -> list[NodeProto]:
        return [
            helper.make_node("Shape", [logits], ["rows"], end=1),
            helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
            helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
            *_add_sum_of(logits, "filled"),
        ]

    _alter(version, insert, rest=np.array([gigabytes, 1 << 28], np.int64))


def double_again_and_again(version: Path, times: int = 40) -> None:
    """Concat with itself: every node is harmless by itself."""

    def insert(logits: str) -> list[NodeProto]:
        names = [logits, *(f"doubled_{time}" for time in range(times))]
        doublings = [
            helper.make_node("Concat", [before, before], [after], axis=1)
            for before, after in itertools.pairwise(names)
        ]
        return [
            *doublings,
            helper.make_node("ReduceMin", [names[-1]], ["least"], keepdims=0),
            helper.make_node("Mul", ["least", "nothing"], ["zero"]),
            helper.make_node("Add", [logits, "zero"], ["altered"]),
        ]

    _alter(version, insert, nothing=np.float32(0))
