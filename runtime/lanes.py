"""Lanes: buffers that carry batches to a device and back, bound to a session once.

A device runs best on a few fixed shapes, in host memory that it can read directly. Each lane
therefore has, for every bucket, an input buffer and output buffers in page-locked memory. With two
lanes, the copies of one batch overlap the computation of the other.
"""

import math
import queue
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from convd.artifact.graph_contract import (
    IMAGE,
    GraphTensor,
    OutputArrays,
    Outputs,
    RowShape,
    join_parts,
)
from convd.runtime.buckets import batch_buckets, bucket_of

HostMemory = Callable[[int], NDArray[np.uint8]]
"""Allocates a number of bytes on the host."""


class Lanes:
    """Runs batches padded to buckets, at most one per lane at a time.

    Args:
        session: A session of a served graph.
        outputs: Its outputs, with the shape of one row of each.
        max_batch_size: The largest bucket.
        lanes: Batches that may run at the same time.
        host_memory: Allocates the buffers.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        outputs: Mapping[GraphTensor, RowShape],
        *,
        max_batch_size: int,
        lanes: int,
        host_memory: HostMemory,
    ) -> None:
        self.buckets = batch_buckets(max_batch_size)
        self._free: queue.SimpleQueue[dict[int, _BoundBatch]] = queue.SimpleQueue()
        image_shape = tuple(session.get_inputs()[0].shape[1:])
        for _ in range(lanes):
            lane = {
                rows: _BoundBatch(session, rows, image_shape, outputs, host_memory)
                for rows in self.buckets
            }
            self._free.put(lane)

    def run(self, images: NDArray[np.uint8]) -> OutputArrays:
        """Run a batch, in several parts if it exceeds the largest bucket.

        Args:
            images: uint8 `[batch, height, width, channels]`.

        Returns:
            Float32 `[batch, ...]` each, in memory that belongs to the caller.
        """
        largest = self.buckets[-1]
        lane = self._free.get()
        try:
            parts = [
                lane[bucket_of(len(part), self.buckets)].run(part)
                for part in (
                    images[start : start + largest] for start in range(0, len(images), largest)
                )
            ]
        finally:
            self._free.put(lane)
        if len(parts) == 1:
            return parts[0]
        return Outputs(*join_parts(parts))


class _BoundBatch:
    """One bucket of one lane."""

    def __init__(
        self,
        session: ort.InferenceSession,
        rows: int,
        image_shape: tuple[int, ...],
        outputs: Mapping[GraphTensor, RowShape],
        host_memory: HostMemory,
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._input, self._images = _buffer((rows, *image_shape), np.uint8, host_memory)
        self._outputs: list[NDArray[Any]] = []
        for output, row_shape in outputs.items():
            value, array = _buffer((rows, *row_shape), output.dtype, host_memory)
            self._binding.bind_ortvalue_output(output.name, value)
            self._outputs.append(array)

    def run(self, images: NDArray[np.uint8]) -> OutputArrays:
        rows = len(images)
        self._images[:rows] = images
        # Padding with a real row keeps the values in the range that the network was trained on.
        self._images[rows:] = images[-1]
        # Binding the input copies it to the device.
        self._binding.bind_ortvalue_input(IMAGE.name, self._input)
        self._session.run_with_iobinding(self._binding)
        return Outputs(*(output[:rows].copy() for output in self._outputs))


def _buffer(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    host_memory: HostMemory,
) -> tuple[ort.OrtValue, NDArray[Any]]:
    """One buffer, as NumPy sees it and as ONNX Runtime does, which copies nothing."""
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    array: NDArray[Any] = host_memory(size_bytes).view(dtype).reshape(shape)
    return ort.OrtValue.ortvalue_from_numpy(array), array
