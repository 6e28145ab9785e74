"""`convd.load`: a published model in the caller's own process."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, overload

from convd.artifact.errors import RepositoryError
from convd.artifact.location import locate
from convd.artifact.manifest import Manifest
from convd.artifact.repository import ModelRepository
from convd.client.errors import ClientError, error_of_status
from convd.client.exchange import Call, classify_all, model_spec
from convd.client.images import ImageLike, several_images
from convd.client.results import Classification
from convd.service.embedded import EmbeddedModel, RequestRefused, configuration_of
from convd.service.inference.bulk import BulkAnswer

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def load(
    path: str | os.PathLike[str],
    *,
    version: int | None = None,
    version_label: str | None = None,
    provider: str = "auto",
    intra_op_threads: int = 0,
) -> "LocalModel":
    """Load a published model into this process; it gives the answers that a server gives.

    Args:
        path: The folder of a model, the folder of a version, or a repository with one model.
        version: The version; None for the newest.
        version_label: A label of the version, in place of its number.
        provider: Execution provider: `auto`, or one that `convd serve --provider` takes.
        intra_op_threads: Threads per inference; 0 uses every core, or one if the model is small.

    Raises:
        ArtifactError: There is no such version, or it is incomplete or altered, or does not
            reproduce its golden answers here.

    Example:
        >>> with convd.load(repository / "digits") as model:
        ...     model.classify(digit).label
        '3'
    """
    repository, name, chosen = find_version(path, version=version, version_label=version_label)
    engine = EmbeddedModel(
        repository, name, chosen, provider=provider, intra_op_threads=intra_op_threads
    )
    return LocalModel(name, chosen, engine)


class FoundVersion(NamedTuple):
    """A published version.

    Attributes:
        repository: The repository's folder.
        name: The model.
        version: Its version.
    """

    repository: Path
    name: str
    version: int

    @property
    def path(self) -> Path:
        """The folder of the version."""
        return self.repository / self.name / str(self.version)

    @property
    def manifest(self) -> Manifest:
        """Its manifest.

        Raises:
            ArtifactError: It is incomplete or altered.
        """
        return ModelRepository(self.repository).open_version(self.name, self.version).manifest


def find_version(
    path: str | os.PathLike[str], *, version: int | None = None, version_label: str | None = None
) -> FoundVersion:
    """Find the version that `load` would load.

    Raises:
        ArtifactError: There is no such version.
    """
    place = locate(Path(path))
    names = [place.model] if place.model else ModelRepository(place.repository).models()
    if len(names) != 1:
        raise RepositoryError(
            f"{path} has {len(names)} models: give the folder of one of them"
            + (f", such as {Path(path) / names[0]}" if names else "")
        )
    chosen = _choose(place.repository, names[0], place.version or version, version_label)
    return FoundVersion(place.repository, names[0], chosen)


class LocalModel:
    """A model in this process; made by `load`, safe for threads.

    Attributes:
        name: The model.
        version: Its version.
    """

    def __init__(self, name: str, version: int, engine: EmbeddedModel) -> None:
        self.name = name
        self.version = version
        self._engine = engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the network."""
        self._engine.close()

    @property
    def manifest(self) -> Manifest:
        """What the artifact promises: labels, preprocessing, accuracy, evidence."""
        return self._engine.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""
        return self.manifest.labels

    @overload
    def classify(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, top_k: int = ...
    ) -> Classification: ...

    @overload
    def classify(
        self, images: Sequence[ImageLike], *, top_k: int = ...
    ) -> list[Classification]: ...

    def classify(
        self, images: ImageLike | Sequence[ImageLike], *, top_k: int = 5
    ) -> Classification | list[Classification]:
        """Classify an image, or several; `Client.classify` has what is taken, given and raised.

        Args:
            images: An image, or a list of images.
            top_k: How many classes to return, most probable first; 0 for all.
        """
        several = several_images(images)
        operation = classify_all(
            [images] if several is None else several,  # type: ignore[list-item]
            model_spec(self.name, None, None),
            top_k,
            0.0,
            _MAX_MESSAGE_BYTES,
        )
        try:
            step = next(operation)
            while True:
                assert isinstance(step, Call)  # noqa: S101
                try:
                    answer = self._engine.answer(step.request)
                except RequestRefused as error:
                    step = operation.throw(_failure(error))
                else:
                    step = operation.send(answer)
        except StopIteration as finished:
            results: list[Classification] = finished.value
        return results[0] if several is None else results

    def answer_files(self, files: Sequence[bytes]) -> BulkAnswer:
        """Classify many image files in this thread, as arrays: for bulk work in several threads.

        Args:
            files: The bytes of JPEG, PNG, WebP or BMP files.

        Raises:
            ClientError: The network cannot be run.
        """
        try:
            return self._engine.answer_files(files)
        except RequestRefused as error:
            raise _failure(error) from error


def _choose(repository: Path, name: str, version: int | None, label: str | None) -> int:
    if label is not None:
        labels = configuration_of(repository, name).labels
        if label not in labels:
            raise RepositoryError(
                f"model {name} has no label {label!r}; its labels are: "
                f"{', '.join(sorted(labels)) or 'none'}"
            )
        version = labels[label]
    versions = ModelRepository(repository).versions(name)
    chosen = version or max(versions, default=0)
    if chosen not in versions:
        raise RepositoryError(
            f"model {name} has no version {version}; it has: "
            f"{', '.join(map(str, versions)) or 'none'}"
        )
    return chosen


def _failure(error: RequestRefused) -> ClientError:
    failure = error_of_status(error.status.number, error.status.message)
    failure.__cause__ = error
    return failure
