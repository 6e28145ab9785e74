"""ONNX files with the size of their batch as a number in some layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from tests.export.sources.test_onnx_forms import LABELS, check_answers, export, fixed

KINDS = ("Resize", "Expand", "Tile", "ConstantOfShape", "Slice", "Concat")


def with_constant_batch(kind: str) -> ModelProto:
    """A graph exported for one picture, whose layer of some kind has the batch as a number."""
    model = fixed(1)
    graph = model.graph

    def constant(name: str, value: object) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        return name

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        made = helper.make_node(operator, inputs, [output], **attributes)
        graph.node.insert(next(i for i, n in enumerate(graph.node) if pooling in n.input), made)
        return output

    pooling = "positive"
    pool = next(node for node in graph.node if node.op_type == "GlobalAveragePool")
    if kind == "Resize":
        sizes = constant("sizes", np.array([1, 8, 20, 20]))
        changed = add("Resize", ["positive", "", "", sizes], "resized", mode="nearest")
    elif kind == "Expand":
        shape = constant("shape_of_shift", np.array([1, 8, 14, 14]))
        shift = constant("shift", np.linspace(-1, 1, 8, dtype=np.float32).reshape(8, 1, 1))
        expanded = add("Expand", [shift, shape], "expanded")
        changed = add("Concat", ["positive", expanded], "joined", axis=2)
    elif kind == "Tile":
        shift = constant("shift", np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8, 1, 1))
        tiled = add("Tile", [shift, constant("repeats", np.array([1, 1, 3, 14]))], "tiled")
        changed = add("Concat", ["positive", tiled], "joined", axis=2)
    elif kind == "ConstantOfShape":
        shape = constant("shape_of_ones", np.array([1, 8, 2, 14]))
        value = numpy_helper.from_array(np.array([0.7], np.float32))
        ones = add("ConstantOfShape", [shape], "ones", value=value)
        changed = add("Concat", ["positive", ones], "joined", axis=2)
    elif kind == "Slice":
        operands = [
            constant(name, np.array(value))
            for name, value in (("s", [0, 1]), ("e", [1, 14]), ("a", [0, 2]))
        ]
        changed = add("Slice", ["positive", *operands], "sliced")
    else:
        token = constant("token", np.full((1, 8, 1, 14), 0.6, np.float32))
        changed = add("Concat", [token, "positive"], "joined", axis=2)
    pool.input[0] = changed
    return model


def squeezed() -> ModelProto:
    """A graph that drops the dimension of the batch, as `x.squeeze()` does with one picture."""
    model = fixed(1)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "axis"))
    last = graph.node[-1]
    last.input[0] = "row"
    graph.node.insert(len(graph.node) - 1, helper.make_node("Squeeze", ["scores", "axis"], ["row"]))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_for_the_batch_is_replaced_and_proved(kind: str, tmp_path: Path) -> None:
    check_answers(with_constant_batch(kind), "", tmp_path)


def test_a_layer_that_takes_one_picture_only_is_named(tmp_path: Path) -> None:
    done = export(squeezed(), tmp_path, f"--labels {','.join(LABELS)}")
    assert done.exit_code == 1
    assert "has a batch of 1 in its layers (Squeeze" in done.output
    assert "dynamic_shapes=({0: 'batch'},)" in done.output
