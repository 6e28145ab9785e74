"""What every model takes and gives, and how it is configured, in the protocol's terms."""

from collections.abc import Sequence

from artifact.bundle import MODEL_FILE
from protos.inference import grpc_service_pb2 as pb
from protos.inference import model_config_pb2 as config_pb
from service.batching.entry import Priority
from service.rpc.open_inference.parameters import MICROSECONDS

IMAGE = "image"
"""The network's input itself: UINT8 `[rows, height, width, channels]`."""

ENCODED_IMAGE = "encoded_image"
"""Image files, which the server decodes and preprocesses: BYTES `[rows, 1]`."""

PROBABILITIES = "probabilities"
LOGITS = "logits"
OUTPUTS = (PROBABILITIES, LOGITS)
"""What can be asked for, in the model's order: FP32 `[rows, classes]`."""

PLATFORM = "onnxruntime_onnx"


def model_metadata(
    name: str, versions: Sequence[int], image_shape: tuple[int, int, int], classes: int
) -> pb.ModelMetadataResponse:
    """What a model takes and gives.

    Args:
        name: The model.
        versions: Its versions that answer requests.
        image_shape: Height, width and channels of the network's input.
        classes: Number of classes.
    """
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=name,
        versions=[str(version) for version in versions],
        platform=PLATFORM,
        inputs=[
            tensor(name=IMAGE, datatype="UINT8", shape=[-1, *image_shape]),
            tensor(name=ENCODED_IMAGE, datatype="BYTES", shape=[-1, 1]),
        ],
        outputs=[tensor(name=output, datatype="FP32", shape=[-1, classes]) for output in OUTPUTS],
    )


def model_config(
    name: str,
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    on_gpu: bool,
    max_batch_size: int,
    max_queue_size: int,
    max_queue_delay_seconds: float,
) -> config_pb.ModelConfig:
    """How a model is configured.

    Args:
        name: The model.
        image_shape: Height, width and channels of the network's input.
        classes: Number of classes.
        on_gpu: Whether it runs on a GPU.
        max_batch_size: Most rows that run at a time; larger requests are split.
        max_queue_size: Most rows that wait.
        max_queue_delay_seconds: How long a batch waits for more rows.
    """
    return config_pb.ModelConfig(
        name=name,
        platform=PLATFORM,
        backend="onnxruntime",
        version_policy=config_pb.ModelVersionPolicy(
            latest=config_pb.ModelVersionPolicy.Latest(num_versions=1)
        ),
        max_batch_size=max_batch_size,
        input=[
            config_pb.ModelInput(
                name=IMAGE,
                data_type=config_pb.TYPE_UINT8,
                format=config_pb.ModelInput.FORMAT_NHWC,
                dims=image_shape,
                optional=True,
            ),
            config_pb.ModelInput(
                name=ENCODED_IMAGE, data_type=config_pb.TYPE_STRING, dims=[1], optional=True
            ),
        ],
        output=[
            config_pb.ModelOutput(name=output, data_type=config_pb.TYPE_FP32, dims=[classes])
            for output in OUTPUTS
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(
                name=name,
                kind=(
                    config_pb.ModelInstanceGroup.KIND_GPU
                    if on_gpu
                    else config_pb.ModelInstanceGroup.KIND_CPU
                ),
                count=1,
            )
        ],
        default_model_filename=str(MODEL_FILE),
        dynamic_batching=config_pb.ModelDynamicBatching(
            max_queue_delay_microseconds=round(max_queue_delay_seconds * MICROSECONDS),
            priority_levels=len(Priority),
            default_priority_level=Priority.NORMAL,
            default_queue_policy=config_pb.ModelQueuePolicy(
                timeout_action=config_pb.ModelQueuePolicy.REJECT,
                allow_timeout_override=True,
                max_queue_size=max_queue_size,
            ),
        ),
    )
