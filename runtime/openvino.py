"""OpenVINO under ONNX Runtime: a plugin beside it, or a build that has it inside."""

import json
from functools import cache
from typing import Any

import onnxruntime as ort

from convd.artifact.precision import Precision
from convd.installation import install_command

NAME = "OpenVINOExecutionProvider"

_REGISTRATION_NAME = "openvino"
_PRECISION_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def why_missing() -> str | None:
    """Why OpenVINO cannot be used here, and what would help; None where it can be."""
    if NAME in ort.get_available_providers():
        return None
    if not _plugin_is_registered():
        return f"it is not installed: {install_command('openvino')}"
    if _plugin_devices():
        return None
    return (
        "the plugin offers no CPU device: it takes Intel processors only; the package "
        "onnxruntime-openvino, in the place of onnxruntime, takes others too"
    )


def configure(options: ort.SessionOptions, precision: Precision) -> list[Any]:
    """Choose OpenVINO's CPU device for a session.

    Args:
        options: The session's options, with `intra_op_num_threads` set.
        precision: `float32` or `bfloat16`, what float32 operators are computed in. It is always
            said, since OpenVINO's own choice depends on the processor.

    Returns:
        The `providers` argument of the session; empty where the options name the device.
    """
    properties = {
        "INFERENCE_PRECISION_HINT": _PRECISION_HINTS[precision],
        "INFERENCE_NUM_THREADS": str(options.intra_op_num_threads),
    }
    provider_options = {"load_config": json.dumps({"CPU": properties})}
    if NAME in ort.get_available_providers():
        return [(NAME, {"device_type": "CPU", **provider_options})]
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
        if device.ep_name == NAME and device.ep_metadata.get("ov_device") == "CPU"
    ]
