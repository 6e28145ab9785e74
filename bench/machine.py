"""Which machine figures were measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path

import onnxruntime


def machine(device: str | None = None) -> str:
    """Processor, cores, load and versions, in a sentence each.

    Args:
        device: What computes; None for the processor.
    """
    load = os.getloadavg()[1]
    # ONNX Runtime comes in packages of several names; the module knows which one is loaded.
    versions = ", ".join(
        [
            f"onnxruntime {onnxruntime.__version__}",
            *(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "grpcio")),
        ]
    )
    return (
        f"{device or _processor()}, {os.cpu_count()} cores; {platform.system()}, Python "
        f"{platform.python_version()}, {versions}. Load average when it began: {load:.1f}."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
