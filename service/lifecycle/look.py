"""Looks at the repository; a look that fails takes nothing out of service."""

import logging
from collections.abc import Callable
from pathlib import Path

from convd.artifact.errors import ArtifactError, RepositoryError, public_reason
from convd.artifact.repository import ModelRepository
from convd.service.quoting import one_line

logger = logging.getLogger(__name__)


class RepositoryLook:
    """Finds the models, and runs the steps of a look so that an error ends only its own step.

    An unreadable, unmounted or emptied volume takes nothing out of service, as with TensorFlow
    Serving's `servable_versions_always_present`.

    Args:
        repository: The repository.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository
        self._problems: dict[str, str] = {}
        self._said: set[Path] = set()

    @property
    def problem(self) -> str:
        """Why the last look was incomplete; empty if it was not."""
        return "; ".join(self._problems.values())

    def models(self, *, had_models: bool) -> list[str]:
        """Names of the models in the repository.

        Args:
            had_models: Whether the last look found any.

        Raises:
            RepositoryError: The repository cannot be read, or all its models are gone at once.
        """
        self._repository.check_readable()
        names = self._repository.models()
        if not names and had_models:
            raise RepositoryError(
                f"the repository {self._repository.root} is empty all at once, so its models stay "
                "loaded: check that the volume is mounted; unload a model, or stop the server, if "
                "they are to go"
            )
        return names

    def attempt(self, name: str, step: Callable[[], None]) -> bool:
        """Run one step of a look; an error leaves everything as it is.

        Args:
            name: The model that the step is about; empty for the repository.
            step: The step.

        Returns:
            Whether the step succeeded.
        """
        try:
            step()
        # The manager must survive any error of a look at the repository.
        except Exception as error:
            expected = isinstance(error, ArtifactError | OSError)
            problem = ": ".join(filter(None, [name, public_reason(error)]))
            if self._problems.get(name) != problem:
                logger.error(
                    "repository read failed; loaded versions stay loaded: %s",
                    one_line(": ".join(filter(None, [name, str(error)]))),
                    exc_info=None if expected else error,
                )
            self._problems[name] = problem
            return False
        self._say_refused()
        if self._problems.pop(name, None) is not None:
            logger.info("readable again: %s", name or self._repository.root)
        return True

    def _say_refused(self) -> None:
        for folder, reason in tuple(self._repository.refused.items()):
            if folder not in self._said:
                logger.warning("%s is not served: %s", one_line(str(folder)), reason)
                self._said.add(folder)
