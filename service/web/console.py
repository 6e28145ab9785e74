"""The console's API: models, model cards, pictures, and classifying an image."""

import logging
import re
from pathlib import PurePosixPath

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.repository import ModelRepository
from convd.service.calls.recorder import CallRecorder
from convd.service.errors import NotFoundError, ServiceError
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import VersionChoice
from convd.service.lifecycle.description import describe
from convd.service.web.model_page import list_entry, picture_type, version_page
from convd.service.web.request import Request
from convd.service.web.response import Response, error_response, json_response
from convd.service.web.trial import Trial

logger = logging.getLogger(__name__)

API = "/api/"
CLASSIFY_PATH = "/api/classify"

_VERSION_PATH = re.compile(r"/api/models/([^/]+)/([1-9][0-9]{0,17})(?:/files/(.+))?")


class Console:
    """Answers the requests of the console's page.

    Args:
        inference: The use case.
        repository: Holds the artifacts, with their model cards and pictures.
        recorder: Records every call.
    """

    def __init__(
        self, inference: InferenceService, repository: ModelRepository, recorder: CallRecorder
    ) -> None:
        self._catalog = inference.catalog
        self._repository = repository
        self._trial = Trial(inference, recorder)

    def answer(self, request: Request) -> Response:
        """Answer one request; errors become responses."""
        path = request.path
        if path == CLASSIFY_PATH:
            return self._trial.classify(request)
        if path == "/api/models":
            catalog = self._catalog
            entries = [list_entry(describe(one, catalog)) for one in catalog.statuses()]
            return json_response(entries)
        match = _VERSION_PATH.fullmatch(path)
        if match is None:
            return error_response(NotFoundError("the console's API has no such path"))
        name, version, file = match.groups()
        try:
            artifact = self._artifact(name, int(version))
            if file is None:
                return json_response(version_page(name, int(version), artifact))
            return _picture(artifact, file)
        except ServiceError as error:
            return error_response(error)
        except ArtifactError:
            logger.warning("cannot show %s", path, exc_info=True)
            return error_response(
                NotFoundError("the artifact was altered or removed on disk after it was loaded")
            )

    def _artifact(self, name: str, version: int) -> Artifact:
        status = self._catalog.status(VersionChoice(name, version))
        if status.servable is None:
            raise NotFoundError(
                f"version {version} of this model is {status.state.value}, so it has no page"
            )
        # The self-test has proved the manifest in memory; files on disk must still match it.
        folder = self._repository.version_folder(name, version)
        return Artifact(folder, status.servable.manifest)


def _picture(artifact: Artifact, file: str) -> Response:
    media_type = picture_type(file)
    if media_type is None or file not in artifact.manifest.files:
        raise NotFoundError("the model's manifest lists no such picture")
    return Response(artifact.read(PurePosixPath(file)), media_type)
