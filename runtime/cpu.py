"""ONNX Runtime's own CPU provider, which every build has: the reference for all others."""

from convd.runtime.provider import ExecutionProvider, Tolerance

_NAME = "CPUExecutionProvider"

CPU = ExecutionProvider(
    name=_NAME,
    precision="float32",
    choice="cpu",
    tolerances={
        # The kernels of other processors add in another order.
        "float32": Tolerance(parity=1e-5, golden=1e-4),
        "float16": Tolerance(parity=1e-2, golden=0.01),
        # Processors round 8-bit sums in different places. The golden answers are the CPU's own;
        # what rounding to 8 bits costs is measured as accuracy.
        "int8": Tolerance(parity=None, golden=0.05),
    },
    why_missing=lambda: None,
    configure=lambda _options, _network, _memory_limit_bytes: [_NAME],
    single_core_batches=True,
    prepares_batch_sizes=False,
)
