"""PyTriton: Triton's C++ front end and dynamic batcher, and the network in a process of Python."""

import os

import numpy as np
from engine import MAX_BATCH_SIZE, Engine
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    """Serve pixels as `pixels`, and JPEGs as `jpeg`."""
    engine = Engine()

    @batch
    def classify(image: np.ndarray) -> dict:
        return {"probabilities": engine.probabilities(image)}

    @batch
    def classify_jpeg(image: np.ndarray) -> dict:
        decoded = [engine.image(row[0]) for row in image]
        return {"probabilities": engine.probabilities(np.stack(decoded))}

    port = int(os.environ["PEER_PORT"])
    config = TritonConfig(grpc_port=port, http_port=port + 1, metrics_port=port + 2)
    outputs = [Tensor(name="probabilities", dtype=np.float32, shape=(engine.classes,))]
    with Triton(config=config) as triton:
        for name, function, dtype, shape in (
            ("pixels", classify, np.uint8, engine.shape),
            ("jpeg", classify_jpeg, np.bytes_, (1,)),
        ):
            triton.bind(
                model_name=name,
                infer_func=function,
                inputs=[Tensor(name="image", dtype=dtype, shape=shape)],
                outputs=outputs,
                config=ModelConfig(max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher()),
            )
        triton.serve()


if __name__ == "__main__":
    main()
