"""What `convd batch` does to a batch of pictures, wherever it runs: rows of one schema."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convd.local_model import LocalModel, load

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("labels", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("error", pa.string()),
        ("seconds", pa.float32()),
    ]
)


class BatchClassifier:
    """Turns batches of files into rows; safe for threads, which then share the network.

    Another process makes its own from the same arguments, which can be pickled.

    Args:
        place: Folder of a model or of a version, as for `convd.load`.
        top_k: How many classes a row has, most probable first; 0 for all.
        provider: Execution provider, as for `convd.load`.
        intra_op_threads: Threads per inference, as for `convd.load`.

    Attributes:
        model: The loaded model.

    Raises:
        ArtifactError: The model cannot be loaded.
    """

    def __init__(
        self, place: str, top_k: int, provider: str = "auto", *, intra_op_threads: int = 0
    ) -> None:
        self.model: LocalModel = load(place, provider=provider, intra_op_threads=intra_op_threads)
        self._top_k = top_k
        self._labels = pa.array(self.model.labels)

    def __call__(self, paths: Sequence[str], files: Sequence[bytes | str]) -> pa.Table:
        """Classify files; the same files give the same rows but for `seconds`.

        Args:
            paths: What each row is named.
            files: The bytes of each image file; or a text, why it could not be read.

        Returns:
            A row of `SCHEMA` for each file, in order. One that cannot be used has an `error`, and
            no labels and probabilities.
        """
        read = [index for index, file in enumerate(files) if isinstance(file, bytes)]
        answer = self.model.answer_files([file for file in files if isinstance(file, bytes)])
        errors = [file if isinstance(file, str) else None for file in files]
        for index, reason in answer.refusals.items():
            errors[read[index]] = reason
        seconds = np.zeros(len(files), np.float32)
        seconds[read] = answer.seconds
        labels, probabilities = self._top_classes(answer.probabilities, errors)
        columns = [
            pa.array(paths, pa.string()),
            pa.repeat(self.model.name, len(files)),
            pa.repeat(pa.scalar(self.model.version, pa.int64()), len(files)),
            labels,
            probabilities,
            pa.array(errors, pa.string()),
            pa.array(seconds),
        ]
        return pa.table(columns, schema=SCHEMA)

    def _top_classes(
        self, probabilities: NDArray[np.float32], errors: list[str | None]
    ) -> tuple[pa.ListArray, pa.ListArray]:
        """Columns of labels and of their probabilities; null where there is an error."""
        # Ties are in index order, as in a server's answers.
        order = (-probabilities).argsort(axis=1, kind="stable")
        if self._top_k:
            order = order[:, : self._top_k]
        ranked = np.take_along_axis(probabilities, order, axis=1)
        failed = np.array([error is not None for error in errors], bool)
        ends = np.cumsum(np.where(failed, 0, order.shape[1]), dtype=np.int32)
        offsets, mask = pa.array(np.concatenate([[0], ends]), pa.int32()), pa.array(failed)
        return (
            pa.ListArray.from_arrays(
                offsets, self._labels.take(pa.array(order.ravel())), mask=mask
            ),
            pa.ListArray.from_arrays(offsets, pa.array(ranked.ravel()), mask=mask),
        )
