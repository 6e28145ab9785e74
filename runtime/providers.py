"""The execution providers that ONNX Runtime can run a network on, and which are here."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from convd.artifact.precision import Precision
from convd.runtime import cuda, openvino

CUDA_NAME = cuda.NAME
OPENVINO_NAME = openvino.NAME
CPU_NAME = "CPUExecutionProvider"


@dataclass(frozen=True)
class ExecutionProvider:
    """One way to run a network.

    Attributes:
        name: ONNX Runtime's name of it.
        precision: The precision in which it computes a float32 network.
    """

    name: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.name} ({self.precision})"

    def computes_in(self, network: Precision) -> Precision:
        """The precision in which it computes a network of some precision.

        Integers stay integers wherever they run; floats are computed in the smaller of the two.
        """
        if network == "int8":
            return network
        return self.precision if self.precision == "bfloat16" or network == "float32" else network


CUDA = ExecutionProvider(CUDA_NAME, "float32")
OPENVINO_BFLOAT16 = ExecutionProvider(OPENVINO_NAME, "bfloat16")
OPENVINO = ExecutionProvider(OPENVINO_NAME, "float32")
CPU = ExecutionProvider(CPU_NAME, "float32")

KNOWN_PROVIDERS = (CUDA, OPENVINO_BFLOAT16, OPENVINO, CPU)
"""Every execution provider that convd knows, in order of preference."""


def installed_providers() -> list[ExecutionProvider]:
    """What this machine can run a network on, in order of preference; the last is the CPU.

    Being installed is no promise: a provider whose device or driver is missing fails when a session
    is made.
    """
    return [provider for provider in KNOWN_PROVIDERS if why_missing(provider) is None]


def why_missing(provider: ExecutionProvider) -> str | None:
    """Why a provider cannot be used here, and what would help; None where it can be."""
    if provider.name == CPU_NAME:
        return None
    if provider.name == OPENVINO_NAME:
        reason = openvino.why_missing()
        if reason is None and provider.precision == "bfloat16" and not _has_bfloat16():
            return "this processor has no bfloat16 instructions (AMX or AVX512-BF16)"
        return reason
    return cuda.why_missing()


@cache
def _has_bfloat16() -> bool:
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16"})
