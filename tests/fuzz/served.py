"""A servable without a server around it, and both protocols on it, for fuzz targets."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from convd.artifact.repository import ModelRepository
from convd.runtime.cores import CoreBudget
from convd.service.calls.call import Call, set_current_call
from convd.service.calls.status import status_of
from convd.service.errors import ServiceError
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.servables.servable import Servable
from convd.service.settings import ServerSettings
from tests.fuzz.bounds import check_text
from tests.tiny_artifact import publish_tiny

MODEL = "pets"
DECODE_BUDGET_BYTES = 64 * 1024 * 1024


@functools.cache
def tiny_repository() -> Path:
    """A repository with one version of a tiny model, for this process alone."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    publish_tiny(folder, MODEL)
    return folder


def settings() -> ServerSettings:
    """Settings of a small server on the CPU."""
    return ServerSettings.model_validate(
        {
            "repository": tiny_repository(),
            "provider": "cpu",
            "intra_op_threads": 1,
            "max_batch_size": 8,
            "load_memory_bytes": 0,
        }
    )


def load() -> Servable:
    """Load the version from disk, as a server does."""
    make = ServableLoader(ModelRepository(tiny_repository()), settings(), Metrics(), CoreBudget(1))
    return make(MODEL, 1, ModelConfiguration())


def inference_on(servable: Servable) -> InferenceService:
    """The use case, with one servable."""
    catalog = Catalog()
    catalog.put(VersionStatus(MODEL, 1, State.AVAILABLE, servable=servable))
    return InferenceService(
        catalog,
        max_image_pixels=2**20,
        max_images_per_request=16,
        decode_budget_bytes=DECODE_BUDGET_BYTES,
    )


def answered_or_refused(answer: Callable[[], object]) -> None:
    """Make a call; what is refused must have a status of its own and a text that can be shown.

    Raises:
        Exception: The call ended with an error that clients would see as internal.
    """
    set_current_call(Call())
    try:
        answer()
    except ServiceError as error:
        status = status_of(error, "id")
        assert status.code.name != "INTERNAL"
        check_text(status.message)
    finally:
        set_current_call(None)
