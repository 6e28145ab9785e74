"""Data sets as batches of prepared pictures."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from convd.artifact.preprocessing import ImageArray, Preprocessing, prepare_image
from convd.models.data.dataset import ImageDataset, targets_of

MAX_BYTES_IN_MEMORY = 1024**3
"""Total size up to which prepared pictures stay in memory; larger sets are prepared each pass."""

_BATCHES_AHEAD = 2


class Batch(NamedTuple):
    """Some pictures and their classes.

    Attributes:
        images: uint8 `[batch, height, width, channels]`.
        targets: int64 `[batch]`.
    """

    images: Tensor
    targets: Tensor


class PreparedDataset:
    """A data set whose pictures are prepared as in serving.

    Args:
        dataset: The pictures.
        preprocessing: The recipe.
        max_bytes_in_memory: Largest total size at which the prepared pictures are kept.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        preprocessing: Preprocessing,
        *,
        max_bytes_in_memory: int = MAX_BYTES_IN_MEMORY,
    ) -> None:
        self.labels = dataset.labels
        self.targets = torch.tensor(targets_of(dataset), dtype=torch.int64)
        self._dataset = dataset
        self._preprocessing = preprocessing
        self._kept: Tensor | None = None
        size_bytes = len(dataset) * int(np.prod(preprocessing.output_shape))
        if size_bytes <= max_bytes_in_memory:
            batches = list(self.in_order(256))
            if batches:
                self._kept = torch.cat([batch.images for batch in batches])

    def __len__(self) -> int:
        return len(self._dataset)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all pictures in the data set's order."""
        return self.batches(torch.split(torch.arange(len(self)), batch_size))

    def batches(self, order: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield batches, prepared ahead in threads unless the pictures are kept in memory.

        Args:
            order: The indices of each batch, int64.
        """
        if self._kept is not None:
            for indices in order:
                yield Batch(self._kept[indices], self.targets[indices])
            return
        # Pillow releases the interpreter lock while it decodes and resizes.
        with ThreadPoolExecutor(thread_name_prefix="prepare") as threads:
            waiting: list[tuple[Tensor, Iterator[ImageArray]]] = []
            for indices in order:
                waiting.append((indices, threads.map(self._prepare, indices.tolist())))
                if len(waiting) > _BATCHES_AHEAD:
                    yield self._collect(*waiting.pop(0))
            for indices, images in waiting:
                yield self._collect(indices, images)

    def _prepare(self, index: int) -> ImageArray:
        return prepare_image(self._dataset.picture(index), self._preprocessing)

    def _collect(self, indices: Tensor, images: Iterator[ImageArray]) -> Batch:
        return Batch(torch.from_numpy(np.stack(list(images))), self.targets[indices])
