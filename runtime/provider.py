"""What convd knows of one execution provider, in one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import onnxruntime as ort

from convd.artifact.precision import Precision
from convd.runtime.lanes import HostMemory


class Tolerance(NamedTuple):
    """How far a provider's answers may be from those that were promised.

    Attributes:
        parity: Largest difference of a probability from the source network's, on the machine that
            exports; None where accuracy decides instead.
        golden: Largest difference of a golden probability, on any machine.
    """

    parity: float | None
    golden: float


@dataclass(frozen=True)
class Device:
    """A device that computes by itself, so that its batches take no cores.

    Attributes:
        lanes: Batches that run on it at the same time.
        host_memory: Allocates what the device copies by itself, from and to.
    """

    lanes: int
    host_memory: HostMemory


@dataclass(frozen=True)
class ExecutionProvider:
    """One way to run a network. To add one, write its file and its row in `providers`.

    Attributes:
        name: ONNX Runtime's name of it.
        precision: The precision in which it computes a float32 network.
        choice: What `--provider` calls it; providers that differ in precision alone share it.
        tolerances: How near its answers are, by the precision in which it computes a network.
        why_missing: Says why it cannot be used here and what to type, or returns None.
        configure: Prepares the options of a session, whose `intra_op_num_threads` is set, and
            returns the session's `providers` argument. The second argument is the precision of
            the network, the third the limit of memory on a device in bytes, 0 for none.
        device: The device that computes; None where the cores of the machine do.
        single_core_batches: Whether a batch on each core may be faster than one on all of them, so
            that it is worth measuring.
        prepares_batch_sizes: Whether the first batch of each size takes longer than the next one,
            so that all sizes have to be warmed up.
    """

    name: str
    precision: Precision
    choice: str = field(compare=False)
    tolerances: Mapping[Precision, Tolerance] = field(compare=False, repr=False)
    why_missing: Callable[[], str | None] = field(compare=False, repr=False)
    configure: Callable[[ort.SessionOptions, Precision, int], list[Any]] = field(
        compare=False, repr=False
    )
    device: Device | None = field(default=None, compare=False, repr=False)
    single_core_batches: bool = field(default=False, compare=False, repr=False)
    prepares_batch_sizes: bool = field(default=True, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.precision})"

    def computes_in(self, network: Precision) -> Precision:
        """The precision in which it computes a network of a given precision.

        Integers stay integers everywhere; floats are computed in the smaller of the two.
        """
        if network == "int8":
            return network
        return self.precision if self.precision == "bfloat16" or network == "float32" else network
