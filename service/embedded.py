"""One version of a model in the caller's own process: a server's code and answers, no ports."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from convd.artifact.manifest import Manifest
from convd.artifact.repository import ModelRepository
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.runtime.cores import CoreBudget, available_cores
from convd.service.calls.call import Call
from convd.service.calls.status import Status, error_status
from convd.service.errors import ServiceError
from convd.service.inference.bulk import BulkAnswer, answer_files
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration, parse_configuration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.protocols.classification import ClassificationServicer
from convd.service.settings_sources import load_settings


class RequestRefused(Exception):  # noqa: N818 - it has the status of an error, and is not one
    """A request ended with a status.

    Attributes:
        status: The status that a server would have answered.
    """

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class EmbeddedModel:
    """Loads a version as a server would, self-test included, and answers requests.

    Safe for threads: requests that come at the same time run in one batch.

    Args:
        repository: The repository's folder.
        name: The model.
        version: Its version.
        **settings: Settings of the server, by name; the environment is not asked.

    Raises:
        ArtifactError: It is incomplete or altered, or does not reproduce its golden answers.
        ConfigurationError: The model's `config.yaml` is not valid.
        SettingsError: A setting is unknown or has an unusable value.
    """

    def __init__(self, repository: Path, name: str, version: int, **settings: object) -> None:
        # A rehearsal protects other models, and there are none.
        given = {"repository": repository, "load_memory_bytes": 0} | settings
        merged = load_settings(given, environment={})
        self._catalog = Catalog()
        loader = ServableLoader(
            ModelRepository(repository), merged, Metrics(), CoreBudget(available_cores())
        )
        self._servable = loader(name, version, configuration_of(repository, name))
        self._catalog.put(VersionStatus(name, version, State.AVAILABLE, servable=self._servable))
        self._inference = InferenceService.of(self._catalog, merged)
        self._servicer = ClassificationServicer(self._inference)

    @property
    def manifest(self) -> Manifest:
        """What the artifact promises."""
        return self._servable.manifest

    def answer(self, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        """Answer a request.

        Raises:
            RequestRefused: It cannot be answered.
        """
        call = Call(method="/convd.v1.ClassificationService/Classify", protocol="embedded")
        with _refusing(call):
            return self._servicer.answer(request, call)

    def answer_files(self, files: Sequence[bytes]) -> BulkAnswer:
        """Answer many image files in this thread, past the queue.

        Raises:
            RequestRefused: The network cannot be run.
        """
        call = Call(protocol="embedded")
        with _refusing(call):
            return answer_files(
                self._servable,
                files,
                call,
                max_image_pixels=self._inference.max_image_pixels,
                budget=self._inference.decode_budget,
            )

    def close(self) -> None:
        """Free the network; requests are refused from now on."""
        self._servable.close()


@contextmanager
def _refusing(call: Call) -> Iterator[None]:
    try:
        yield
    except ServiceError as error:
        raise RequestRefused(error_status(error, call)) from error


def configuration_of(repository: Path, name: str) -> ModelConfiguration:
    """The configuration of a model.

    Raises:
        ConfigurationError: Its `config.yaml` is not valid.
    """
    data = ModelRepository(repository).read_configuration(name)
    return ModelConfiguration() if data is None else parse_configuration(data)
