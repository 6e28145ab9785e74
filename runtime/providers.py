"""The execution providers that convd knows, and those that this machine has."""

from convd.artifact.precision import Precision
from convd.runtime.cpu import CPU
from convd.runtime.cuda import CUDA
from convd.runtime.openvino import OPENVINO, OPENVINO_BFLOAT16
from convd.runtime.provider import ExecutionProvider

KNOWN_PROVIDERS = (
    CUDA,
    OPENVINO_BFLOAT16,
    OPENVINO,
    CPU,
)
"""Every execution provider that convd supports, in order of preference."""


def installed_providers() -> list[ExecutionProvider]:
    """The providers that this machine has, in order of preference; the last is the CPU.

    Being installed is no guarantee: a provider whose device or driver is missing fails when a
    session is created.
    """
    return [provider for provider in KNOWN_PROVIDERS if provider.why_missing() is None]


def golden_tolerances(network: Precision) -> dict[str, dict[Precision, float]]:
    """Largest difference of a golden probability, by provider and the precision it computes in.

    Args:
        network: The precision of the network.
    """
    tolerances: dict[str, dict[Precision, float]] = {}
    for provider in KNOWN_PROVIDERS:
        computed = provider.computes_in(network)
        tolerances.setdefault(provider.name, {})[computed] = provider.tolerances[computed].golden
    return tolerances
