"""A published network of one convolution that looks for red, and says where; without torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from convd.artifact.class_activation import CLASS_WEIGHTS_FILE
from convd.artifact.evidence import FeatureOutputs
from convd.artifact.preprocessing import CenterCrop, Preprocessing, prepare_image
from convd.artifact.resizing import ResizeShorterSide
from testbed.published_graphs import publish_network

SIDE = 16
MAPS = 2
LABELS = ("none", "red")


def recipe(side: int) -> Preprocessing:
    return Preprocessing(
        resize=ResizeShorterSide(size=side + 2),
        center_crop=CenterCrop(height=side, width=side),
        apply_exif_orientation=True,
    )


RECIPE = recipe(SIDE)
CLASS_WEIGHTS = np.array([[0, 0.01], [0.05, 0]], np.float32)
BIAS = np.array([0.5, -0.25], np.float32)


def red_spot(width: int, height: int, x: float, y: float, radius: float) -> Image.Image:
    """A red disc on gray."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[(columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2] = (250, 10, 10)
    return Image.fromarray(pixels)


def publish_red(repository: Path, name: str, *, with_maps: bool, side: int = SIDE) -> bytes:
    """Publish it for pictures of `side` x `side`, and return the graph."""
    shapes = {"probabilities": [2], "logits": [2]}
    cells = side // 2
    if with_maps:
        shapes |= {"features": [MAPS], "activation_maps": [MAPS, cells, cells]}
    network = _network(shapes, side)
    picture = red_spot(40, 30, 20, 15, 8)
    session = ort.InferenceSession(network)
    image = prepare_image(picture, recipe(side))[np.newaxis]
    (probabilities,) = session.run(["probabilities"], {"image": image})
    evidence = {}
    if with_maps:
        evidence["features"] = FeatureOutputs(length=MAPS, map_shape=(MAPS, cells, cells))
    files = {str(CLASS_WEIGHTS_FILE): CLASS_WEIGHTS.tobytes()} if with_maps else {}
    golden = [(picture, probabilities[0])]
    publish_network(
        repository, name, network, LABELS, recipe(side), golden, files=files, **evidence
    )
    return network


def _network(shapes: dict[str, list[int]], side: int) -> bytes:
    # How much redder than green a place is, and how bright it is.
    kernel: NDArray[np.float32] = np.zeros((MAPS, 3, 2, 2), np.float32)
    kernel[0, 0], kernel[0, 1], kernel[1] = 0.25, -0.25, 1 / 12
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "kernel"], ["convolved"], strides=[2, 2]),
        helper.make_node("Relu", ["convolved"], ["activation_maps"]),
        helper.make_node("ReduceMean", ["activation_maps", "axes"], ["features"], keepdims=0),
        helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", side, side, 3])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])
            for output, shape in shapes.items()
        ],
        [
            numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(CLASS_WEIGHTS, "weights"),
            numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    opset = helper.make_opsetid("", 18)
    return onnx.ModelProto(ir_version=9, graph=graph, opset_import=[opset]).SerializeToString()
