"""CUDA under ONNX Runtime, as a service wants it."""

from typing import Any

import onnxruntime as ort

from convd.installation import install_command
from convd.runtime.provider import Device, ExecutionProvider, Tolerance

_NAME = "CUDAExecutionProvider"


def _why_missing() -> str | None:
    if _NAME in ort.get_available_providers():
        return None
    return (
        "this onnxruntime is built without CUDA: pip uninstall onnxruntime, then "
        f"{install_command('cuda')}"
    )


def _configure(_options: ort.SessionOptions, memory_limit_bytes: int) -> list[Any]:
    # Finds the CUDA and cuDNN libraries that pip installed, where the loader does not look.
    ort.preload_dlls()
    options = {
        # TensorFloat-32 keeps 10 bits of mantissa, which is not float32.
        "use_tf32": "0",
        # The search is thorough, and over when every bucket has been warmed up.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        # Doubling would take memory that the other servables on the device need.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if memory_limit_bytes:
        options["gpu_mem_limit"] = str(memory_limit_bytes)
    return [(_NAME, options)]


def _host_memory() -> Any:  # noqa: ANN401
    for device in ort.get_ep_devices():
        if device.ep_name == _NAME:
            return device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    return None


CUDA = ExecutionProvider(
    name=_NAME,
    precision="float32",
    choice="cuda",
    tolerances={
        "float32": Tolerance(parity=1e-4, golden=1e-3),
        "float16": Tolerance(parity=1e-2, golden=0.01),
        "int8": Tolerance(parity=None, golden=0.1),
    },
    why_missing=_why_missing,
    configure=_configure,
    # One batch is copied while the other is computed.
    device=Device(lanes=2, host_memory=_host_memory),
)
