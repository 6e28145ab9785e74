"""CUDA under ONNX Runtime, as a service wants it."""

import ctypes
import weakref
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from convd.artifact.precision import Precision
from convd.installation import install_command
from convd.runtime.errors import SessionError
from convd.runtime.provider import Device, ExecutionProvider, Tolerance

_NAME = "CUDAExecutionProvider"


def _why_missing() -> str | None:
    if _NAME in ort.get_available_providers():
        return None
    return (
        "this onnxruntime is built without CUDA: pip uninstall onnxruntime, then "
        f"{install_command('cuda')}"
    )


def _configure(
    _options: ort.SessionOptions, network: Precision, memory_limit_bytes: int
) -> list[Any]:
    # Finds the CUDA and cuDNN libraries that pip installed, where the loader does not look.
    ort.preload_dlls()
    options = {
        # TensorFloat-32 keeps 10 bits of mantissa, which is not float32. Without it, ONNX Runtime
        # gives float16 none of the tensor cores either, which float16 needs.
        "use_tf32": "1" if network == "float16" else "0",
        # The search is thorough, and over when every bucket has been warmed up.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        # Doubling would take memory that the other servables on the device need.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if memory_limit_bytes:
        options["gpu_mem_limit"] = str(memory_limit_bytes)
    return [(_NAME, options)]


def _page_locked(size_bytes: int) -> NDArray[np.uint8]:
    # ONNX Runtime lends its own page-locked memory, and then refuses it in a binding.
    runtime = ctypes.CDLL(f"libcudart.so.{ort.cuda_version.partition('.')[0]}")
    address = ctypes.c_void_p()
    error = runtime.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size_bytes), 0)
    if error or address.value is None:
        raise SessionError(f"CUDA cannot lock {size_bytes} bytes of host memory: error {error}")
    memory = (ctypes.c_uint8 * size_bytes).from_address(address.value)
    weakref.finalize(memory, runtime.cudaFreeHost, address).atexit = False
    return np.frombuffer(memoryview(memory), np.uint8)


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
    device=Device(lanes=2, host_memory=_page_locked),
)
