"""What Triton's examples `image_client.py` and `grpc_image_client.py` ask, with Triton's client.

The examples are not part of the client's wheel. These are their calls and their demands: a model
with one input of three dimensions and one output, a vector of FP32; pictures as pixels of the
input's type, and classes in the answer.
"""

import argparse
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import triton_to_np_dtype

CLASSES = 2
BATCH = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grpc_address")
    parser.add_argument("http_address")
    parser.add_argument("model")
    arguments = parser.parse_args()
    over_grpc = tritonclient.grpc.InferenceServerClient(arguments.grpc_address)
    over_http = tritonclient.http.InferenceServerClient(arguments.http_address)
    answers = [
        ask(tritonclient.grpc, over_grpc, arguments.model, _as_json(over_grpc, arguments.model)),
        ask(
            tritonclient.http,
            over_http,
            arguments.model,
            (
                over_http.get_model_metadata(arguments.model),
                over_http.get_model_config(arguments.model),
            ),
        ),
    ]
    assert (answers[0] == answers[1]).all()
    print("ok  image_client over gRPC and HTTP", flush=True)


def _as_json(client: Any, model: str) -> tuple[Any, Any]:
    metadata = client.get_model_metadata(model, as_json=True)
    config = client.get_model_config(model, as_json=True)["config"]
    for tensor in (*metadata["inputs"], *metadata["outputs"]):
        tensor["shape"] = [int(one) for one in tensor["shape"]]
    return metadata, config


def ask(module: Any, client: Any, model: str, described: tuple[Any, Any]) -> Any:
    """Check what the examples check, and classify as they do; the classes as text."""
    metadata, config = described
    [given], [answer], [configured] = metadata["inputs"], metadata["outputs"], config["input"]
    assert answer["datatype"] == "FP32"
    assert config["max_batch_size"] > 0
    assert sum(one > 1 for one in answer["shape"][1:]) <= 1, "a vector"
    assert configured["format"] == "FORMAT_NHWC"
    _, height, width, channels = given["shape"]
    pictures = np.random.default_rng(0).integers(0, 256, (BATCH, height, width, channels))
    pixels = pictures.astype(triton_to_np_dtype(given["datatype"]))
    tensor = module.InferInput(given["name"], list(pixels.shape), given["datatype"])
    tensor.set_data_from_numpy(pixels)
    output = module.InferRequestedOutput(answer["name"], class_count=CLASSES)
    result = client.infer(model, [tensor], outputs=[output]).as_numpy(answer["name"])
    assert result.shape == (BATCH, CLASSES)
    for row in result:
        for text in row:
            value, index, label = text.decode().split(":")
            assert 0 <= float(value) <= 1
            assert int(index) >= 0
            assert label
    return result


if __name__ == "__main__":
    main()
