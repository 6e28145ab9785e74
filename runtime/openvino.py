"""OpenVINO under ONNX Runtime: a plugin beside it, or a build that includes it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort

from convd.installation import install_command
from convd.runtime.provider import ExecutionProvider, Tolerance

_NAME = "OpenVINOExecutionProvider"
_REGISTRATION_NAME = "openvino"


def _why_missing() -> str | None:
    if _NAME in ort.get_available_providers():
        return None
    if not _plugin_is_registered():
        return f"it is not installed: {install_command('openvino')}"
    if _plugin_devices():
        return None
    return (
        "the plugin offers no CPU device, since it supports Intel processors only; on others, "
        "install the package onnxruntime-openvino in place of onnxruntime"
    )


def _why_bfloat16_is_missing() -> str | None:
    reason = _why_missing()
    if reason is None and not _has_bfloat16():
        return "this processor has no bfloat16 instructions (AMX or AVX512-BF16)"
    return reason


def _configure(options: ort.SessionOptions, precision_hint: str) -> list[Any]:
    """Choose OpenVINO's CPU device.

    The precision is always stated, since OpenVINO's own choice depends on the processor.

    Returns:
        The `providers` argument of the session; empty where the options name the device.
    """
    properties = {
        "INFERENCE_PRECISION_HINT": precision_hint,
        "INFERENCE_NUM_THREADS": str(options.intra_op_num_threads),
    }
    provider_options = {"load_config": json.dumps({"CPU": properties})}
    if _NAME in ort.get_available_providers():
        return [(_NAME, {"device_type": "CPU", **provider_options})]
    options.add_provider_for_devices(_plugin_devices()[:1], provider_options)
    return []


@cache
def _plugin_is_registered() -> bool:
    """Register the plugin, once for the whole process."""
    try:
        import onnxruntime_ep_openvino as plugin
    except ModuleNotFoundError:
        return False
    ort.register_execution_provider_library(_REGISTRATION_NAME, plugin.get_library_path())
    return True


def _plugin_devices() -> list[Any]:
    if not _plugin_is_registered():
        return []
    return [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == _NAME and device.ep_metadata.get("ov_device") == "CPU"
    ]


@cache
def _has_bfloat16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16"})


OPENVINO = ExecutionProvider(
    name=_NAME,
    precision="float32",
    choice="openvino",
    tolerances={
        # Its kernels, such as Winograd's, round in other places.
        "float32": Tolerance(parity=1e-4, golden=1e-4),
        "float16": Tolerance(parity=1e-2, golden=0.01),
        "int8": Tolerance(parity=None, golden=0.1),
    },
    why_missing=_why_missing,
    configure=lambda options, _network, _memory_limit_bytes: _configure(options, "f32"),
)

OPENVINO_BFLOAT16 = ExecutionProvider(
    name=_NAME,
    precision="bfloat16",
    choice="openvino",
    tolerances={
        # 8 bits of mantissa: logits are off by up to half a percent.
        "bfloat16": Tolerance(parity=0.1, golden=0.05),
        "int8": Tolerance(parity=None, golden=0.1),
    },
    why_missing=_why_bfloat16_is_missing,
    configure=lambda options, _network, _memory_limit_bytes: _configure(options, "bf16"),
)
