"""CUDA under ONNX Runtime, as a service wants it."""

from typing import Any

import onnxruntime as ort

NAME = "CUDAExecutionProvider"

LANES = 2
"""Batches on one device at the same time: one is copied while the other is computed."""


def why_missing() -> str | None:
    """Why CUDA cannot be used here, and what would help; None where it may be."""
    if NAME in ort.get_available_providers():
        return None
    return "this onnxruntime is built without CUDA: pip install onnxruntime-gpu in its place"


def provider_options(memory_limit_bytes: int) -> dict[str, str]:
    """Options of one session.

    Args:
        memory_limit_bytes: Most memory of its arena on the device; 0 for no limit.
    """
    options = {
        # TensorFloat-32 keeps 10 bits of mantissa, which is not float32.
        "use_tf32": "0",
        # The search is thorough, and over when every bucket has been warmed up.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        # Doubling would take memory that the other servables of the device need.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if memory_limit_bytes:
        options["gpu_mem_limit"] = str(memory_limit_bytes)
    return options


def host_memory() -> Any:  # noqa: ANN401
    """Page-locked host memory that the device reads by itself; None if there is no access to it."""
    for device in ort.get_ep_devices():
        if device.ep_name == NAME:
            return device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
    return None


def load_libraries() -> None:
    """Find the CUDA and cuDNN libraries that pip installed, which the loader does not look for."""
    ort.preload_dlls()
