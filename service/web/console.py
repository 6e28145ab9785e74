"""The console: a page for people, and the JSON behind it."""

import logging
import re
from importlib import resources
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from artifact.bundle import Artifact
from artifact.errors import ArtifactError
from artifact.repository import ModelRepository
from service.errors import NotFoundError, ServiceError
from service.inference import InferenceService
from service.recorder import CallRecorder
from service.web.model_description import describe_status, describe_version, picture_type
from service.web.response import Response, error_response, json_response
from service.web.trial import Trial

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

logger = logging.getLogger(__name__)

CLASSIFY_PATH = "/api/classify"

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_VERSION_PATH = re.compile(r"/api/models/([^/]+)/([1-9][0-9]{0,17})(?:/files/(.+))?")


class Console:
    """Answers what a browser asks for at `/`.

    Args:
        inference: What classifies the images that are tried, and knows the models.
        repository: Where the artifacts lie, for model cards and pictures.
        recorder: Is told of every image that is tried.
    """

    def __init__(
        self, inference: InferenceService, repository: ModelRepository, recorder: CallRecorder
    ) -> None:
        self._catalog = inference.catalog
        self._repository = repository
        self._trial = Trial(inference, recorder)
        self._pages = _static_files()

    def answer(self, environ: "WSGIEnvironment") -> Response | None:
        """Answer one request; None for a path that is not the console's."""
        path = environ["PATH_INFO"]
        if path in self._pages:
            return self._pages[path]
        query = {key: values[-1] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        if path == CLASSIFY_PATH:
            return self._trial.classify(environ, query)
        if path == "/api/models":
            statuses = self._catalog.statuses()
            return json_response([describe_status(status, self._catalog) for status in statuses])
        match = _VERSION_PATH.fullmatch(path)
        if match is None:
            return None
        name, version, file = match.groups()
        try:
            artifact = self._artifact(name, int(version))
            if file is None:
                return json_response(describe_version(name, int(version), artifact))
            return _picture(artifact, file)
        except ServiceError as error:
            return error_response(error)
        except ArtifactError:
            logger.warning("%s cannot be shown", path, exc_info=True)
            return error_response(NotFoundError("the artifact was altered or removed on disk"))

    def _artifact(self, name: str, version: int) -> Artifact:
        status = self._catalog.status(name, version)
        if status.servable is None:
            raise NotFoundError(f"version {version} of this model is {status.state.value}")
        # The manifest in memory is the one that was proved; what lies on disk must still fit it.
        return Artifact(self._repository.version_path(name, version), status.servable.manifest)


def _picture(artifact: Artifact, file: str) -> Response:
    media_type = picture_type(file)
    if media_type is None or file not in artifact.manifest.files:
        raise NotFoundError("the manifest lists no such picture")
    return Response(artifact.read(PurePosixPath(file)), media_type)


def _static_files() -> dict[str, Response]:
    """Read the page and what belongs to it, once."""
    files = {}
    for file in (resources.files("service.web") / "static").iterdir():
        media_type = _MEDIA_TYPES.get(PurePosixPath(file.name).suffix)
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/static/{file.name}"
            files[path] = Response(file.read_bytes(), media_type)
    return files
