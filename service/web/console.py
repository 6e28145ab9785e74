"""The console's API: models, model cards and their pictures."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.repository import ModelRepository
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.errors import NotFoundError
from convd.service.lifecycle.catalog import Catalog, VersionChoice
from convd.service.lifecycle.description import describe
from convd.service.quoting import quote
from convd.service.web.api.json_messages import message_document
from convd.service.web.model_page import list_entry, picture_type, version_page
from convd.service.web.request import Request
from convd.service.web.response import Response, json_response

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class Console:
    """Answers the requests of the console's page.

    Args:
        catalog: The versions.
        repository: Holds the artifacts, with their model cards and pictures.
        list_comparisons: Returns what the comparisons of versions have found.
    """

    def __init__(
        self,
        catalog: Catalog,
        repository: ModelRepository,
        list_comparisons: Callable[[], pb.ListComparisonsResponse],
    ) -> None:
        self._list_comparisons = list_comparisons
        self._catalog = catalog
        self._repository = repository

    @property
    def actions(self) -> Mapping[str, Callable[[Request], Response]]:
        """Its functions, by the action of their routes."""
        return {
            "console_models": self._models,
            "console_comparisons": self._comparisons,
            "console_version": self._version,
            "console_file": self._file,
        }

    def _models(self, _request: Request) -> Response:
        catalog = self._catalog
        return json_response([list_entry(describe(one, catalog)) for one in catalog.statuses()])

    def _comparisons(self, _request: Request) -> Response:
        return json_response(message_document(self._list_comparisons())["comparisons"])

    def _version(self, request: Request) -> Response:
        name, version = _named(request)
        with _altered_is_not_found(request):
            return json_response(version_page(name, version, self._artifact(name, version)))

    def _file(self, request: Request) -> Response:
        name, version = _named(request)
        with _altered_is_not_found(request):
            return _picture(self._artifact(name, version), request.segments["file"])

    def _artifact(self, name: str, version: int) -> Artifact:
        status = self._catalog.status(VersionChoice(name, version))
        if status.servable is None:
            raise NotFoundError(
                f"version {version} of this model is {status.state.value}, so it has no page"
            )
        # The self-test has proved the manifest in memory; files on disk must still match it.
        folder = self._repository.version_folder(name, version)
        return Artifact(folder, status.servable.manifest)


def _named(request: Request) -> tuple[str, int]:
    version = request.segments["version"]
    if _VERSION.fullmatch(version) is None:
        raise NotFoundError(f"there is no version '{quote(version)}': versions are numbers from 1")
    return request.segments["model"], int(version)


@contextmanager
def _altered_is_not_found(request: Request) -> Iterator[None]:
    try:
        yield
    except ArtifactError as error:
        logger.warning("cannot show %s", quote(request.head.path), exc_info=True)
        raise NotFoundError(
            "the artifact was altered or removed on disk after it was loaded"
        ) from error


def _picture(artifact: Artifact, file: str) -> Response:
    media_type = picture_type(file)
    if media_type is None or file not in artifact.manifest.files:
        raise NotFoundError("the model's manifest lists no such picture")
    return Response(artifact.read(PurePosixPath(file)), media_type)
