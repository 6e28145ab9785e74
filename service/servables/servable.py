"""A servable: one model version, loaded, proved and ready to answer."""

import math
import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from convd.artifact.graph_contract import FEATURES, Extras
from convd.artifact.manifest import Manifest
from convd.runtime.choice import ProvenSession
from convd.service.batching.batcher import Batcher
from convd.service.errors import InvalidRequestError
from convd.service.metrics import VersionMetrics
from convd.service.servables.instances import Instances
from convd.service.servables.warmup import BatchCost
from convd.service.settings import ServerSettings

_CLASS_BYTES = 16
"""What a class takes in an answer besides its label: index, probability, and their tags."""

_CLASS_TEXT_BYTES = 128
"""More than a class takes as text besides its label, in each of two outputs."""


class Servable:
    """One model version in memory.

    Args:
        name: The model.
        version: Its version.
        manifest: The artifact's manifest.
        proven: The loaded network and the result of its self-test.
        costs: The measured cost of a batch of each size.
        instances: Runs one batch per core under heavy load; None to run all batches on the session.
        batcher: Runs the rows of many requests together.
        metrics: Counts its requests and batches.
        settings: The server's settings, overridden by the model's own.
        class_weights: What each label gives to the activation maps, float32 `[labels, maps]`; None
            where there are none.
    """

    def __init__(
        self,
        name: str,
        version: int,
        manifest: Manifest,
        proven: ProvenSession,
        costs: tuple[BatchCost, ...],
        instances: Instances | None,
        batcher: Batcher,
        metrics: VersionMetrics,
        settings: ServerSettings,
        class_weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.manifest = manifest
        # Every request needs these.
        self.version_text = str(version)
        self.image_shape = manifest.preprocessing.output_shape
        self.image_bytes = math.prod(self.image_shape)
        self.tensor_bytes = {
            output.name: 4 * math.prod(shape) for output, shape in proven.session.outputs.items()
        }
        lengths = [len(label.encode()) + _CLASS_BYTES for label in manifest.labels]
        self._all_classes_bytes, self._largest_class_bytes = sum(lengths), max(lengths)
        self.most_answer_bytes = sum(self.tensor_bytes.values()) + 2 * (
            self._all_classes_bytes + _CLASS_TEXT_BYTES * len(lengths)
        )
        self.session = proven.session
        self.provider = proven.session.provider
        self.precision = self.provider.computes_in(manifest.precision)
        self.golden_difference = proven.golden_difference
        self.refusals = proven.refusals
        self.costs = costs
        self.instances = instances
        self.batcher = batcher
        self.metrics = metrics
        self.settings = settings
        self.class_weights = class_weights
        # A deque as a count: every request adds to it and takes from it, which needs no lock.
        self._holders: deque[None] = deque()
        self._draining = False
        self._released = threading.Condition()

    def answer_bytes(self, top_k: int) -> int:
        """Upper bound of what the classes of one image take in an answer.

        Args:
            top_k: How many classes are sent; 0 for all.
        """
        if 0 < top_k < len(self.manifest.labels):
            return min(self._all_classes_bytes, top_k * self._largest_class_bytes)
        return self._all_classes_bytes

    def extra_bytes(self, extras: Extras) -> int:
        """What optional outputs take in an answer, for one image.

        Raises:
            InvalidRequestError: The network has no such output.
        """
        shapes = {output.name: shape for output, shape in self.session.outputs.items()}
        missing = sorted(extras - shapes.keys())
        if missing:
            why = (
                "its last layer does not take the means of feature maps"
                if FEATURES.name in shapes
                else "export it with --features"
            )
            raise InvalidRequestError(
                f"version {self.version} of {self.name} has no output '{missing[0]}': {why}"
            )
        return sum(4 * math.prod(shapes[name]) for name in extras)

    def retain(self) -> None:
        """Add a holder; the servable is not unloaded before every holder has released it."""
        self._holders.append(None)

    def release(self) -> None:
        """Remove a holder."""
        # `drain` writes the flag and then looks at the holders, this takes one away and then reads
        # the flag: one of them sees the other.
        self._holders.pop()
        if self._draining:
            with self._released:
                self._released.notify_all()

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until the servable has no holders; False on timeout."""
        with self._released:
            self._draining = True
            return self._released.wait_for(lambda: not self._holders, timeout_seconds)

    def close(self) -> None:
        """Refuse all waiting and future requests."""
        self.batcher.close()
        self.metrics.close()

    def describe(self) -> str:
        """Describe it for the log: provider with the refusals of others, quality and speed."""
        manifest = self.manifest
        proof = f"golden difference {self.golden_difference:.1e}"
        quality = f", {manifest.accuracy}" if manifest.accuracy else ""
        kind = "independent labels" if manifest.task == "multilabel" else "classes"
        count = self.session.threads
        threads = f", {count} thread{'s' if count > 1 else ''}" if count else ""
        lines = [
            f"{self.name} version {self.version} on {self.session.provider}{threads} "
            f"({len(manifest.labels)} {kind}, {proof}{quality})"
        ]
        lines += [f"  not on {refusal.in_full()}" for refusal in self.refusals]
        lines.append(f"  images per second by batch size: {_rates(self.costs)}")
        if self.instances is not None:
            executions = self.instances.session.max_concurrent_executions
            lines.append(
                f"  under load {executions} batches at a time, a core each: "
                f"{_rates(self.instances.costs)}"
            )
        return "\n".join(lines)


def _rates(costs: tuple[BatchCost, ...]) -> str:
    return ", ".join(f"{cost.rows}: {cost.images_per_second:.0f}" for cost in costs)
