"""Describes a model's inputs, outputs and configuration in the protocol's terms."""

from collections.abc import Sequence

from convd.artifact.bundle import MODEL_FILE
from convd.artifact.graph_contract import IMAGE as IMAGE_TENSOR
from convd.artifact.graph_contract import OUTPUTS
from convd.protos.inference import grpc_service_pb2 as pb
from convd.protos.inference import model_config_pb2 as pb_config
from convd.service.batching.entry import REQUEST_PRIORITIES, Priority
from convd.service.lifecycle.policy import LatestVersions, SpecificVersions, VersionPolicy
from convd.service.protocols.open_inference.parameters import MICROSECONDS
from convd.service.servables.servable import Servable

IMAGE = IMAGE_TENSOR.name
"""The network's input itself: UINT8 `[rows, height, width, channels]`."""

ENCODED_IMAGE = "encoded_image"
"""Image files, which the server decodes and preprocesses: BYTES `[rows, 1]`."""

PLATFORM = "onnxruntime_onnx"


def model_metadata(servable: Servable, versions: Sequence[int]) -> pb.ModelMetadataResponse:
    """Describe a model's inputs and outputs.

    Args:
        servable: The requested version.
        versions: All available versions of the model.
    """
    tensor = pb.ModelMetadataResponse.TensorMetadata
    image_shape = servable.manifest.preprocessing.output_shape
    inputs = [tensor(name=IMAGE, datatype="UINT8", shape=[-1, *image_shape])]
    if not _shows_image_only(servable):
        inputs.append(tensor(name=ENCODED_IMAGE, datatype="BYTES", shape=[-1, 1]))
    return pb.ModelMetadataResponse(
        name=servable.name,
        versions=[str(version) for version in versions],
        platform=PLATFORM,
        inputs=inputs,
        outputs=[
            tensor(name=name, datatype="FP32", shape=[-1, *row_shape])
            for name, row_shape in _shown_outputs(servable)
        ],
    )


def model_config(servable: Servable, policy: VersionPolicy | None) -> pb_config.ModelConfig:
    """Describe a model's configuration.

    Args:
        servable: The requested version.
        policy: Which versions of the model should be available; None if that is not known.
    """
    settings = servable.settings
    image_only = _shows_image_only(servable)
    inputs = [
        pb_config.ModelInput(
            name=IMAGE,
            data_type=pb_config.TYPE_UINT8,
            format=pb_config.ModelInput.FORMAT_NHWC,
            dims=servable.manifest.preprocessing.output_shape,
            optional=not image_only,
        )
    ]
    if not image_only:
        inputs.append(
            pb_config.ModelInput(
                name=ENCODED_IMAGE, data_type=pb_config.TYPE_STRING, dims=[1], optional=True
            )
        )
    on_gpu = servable.session.provider.device is not None
    group = pb_config.ModelInstanceGroup
    return pb_config.ModelConfig(
        name=servable.name,
        platform=PLATFORM,
        backend="onnxruntime",
        version_policy=_version_policy(policy),
        max_batch_size=settings.max_batch_size,
        input=inputs,
        output=[
            pb_config.ModelOutput(name=name, data_type=pb_config.TYPE_FP32, dims=row_shape)
            for name, row_shape in _shown_outputs(servable)
        ],
        instance_group=[
            group(
                name=servable.name,
                kind=group.KIND_GPU if on_gpu else group.KIND_CPU,
                count=(servable.instances or servable).session.max_concurrent_executions,
            )
        ],
        default_model_filename=str(MODEL_FILE),
        parameters={"task": pb_config.ModelParameter(string_value=servable.manifest.task)},
        dynamic_batching=pb_config.ModelDynamicBatching(
            max_queue_delay_microseconds=round(settings.max_queue_delay_seconds * MICROSECONDS),
            priority_levels=len(REQUEST_PRIORITIES),
            default_priority_level=Priority.NORMAL,
            default_queue_policy=pb_config.ModelQueuePolicy(
                timeout_action=pb_config.ModelQueuePolicy.REJECT,
                allow_timeout_override=True,
                max_queue_size=settings.max_queue_size,
            ),
        ),
    )


def _shows_image_only(servable: Servable) -> bool:
    return servable.settings.triton_interface == "image"


def _shown_outputs(servable: Servable) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of a row of each output that clients are shown."""
    image_only = _shows_image_only(servable)
    return [
        (output.name, tuple(row_shape))
        for output, row_shape in servable.session.outputs.items()
        if not image_only or output.name == OUTPUTS.probabilities.name
    ]


def _version_policy(policy: VersionPolicy | None) -> pb_config.ModelVersionPolicy | None:
    message = pb_config.ModelVersionPolicy
    if isinstance(policy, LatestVersions):
        return message(latest=message.Latest(num_versions=policy.latest))
    if isinstance(policy, SpecificVersions):
        return message(specific=message.Specific(versions=sorted(policy.specific)))
    return message(all=message.All()) if policy is not None else None
