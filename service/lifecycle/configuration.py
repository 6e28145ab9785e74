"""`REPOSITORY/NAME/config.yaml`: how one model is to be served."""

import difflib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from convd.artifact.errors import ArtifactError, ExplainedError, public_reason
from convd.artifact.frozen import FrozenModel
from convd.runtime.choice import PrecisionPolicy, ProviderChoice
from convd.service.lifecycle.policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from convd.service.lifecycle.shadow_settings import Label, ShadowSettings
from convd.service.quoting import one_line
from convd.service.settings import (
    BatchSize,
    ConcurrentExecutions,
    IntraOpThreads,
    QueueDelaySeconds,
    QueueSize,
    TritonInterface,
)
from convd.service.strict_yaml import StrictYamlError, YamlMapping, decode_yaml

logger = logging.getLogger(__name__)

_NEVER = object()


class ConfigurationError(ExplainedError):
    """A model's configuration is not valid; the text says what to change."""


def _read_policy(value: object) -> object:
    if value == "all":
        return AllVersions()
    if isinstance(value, LatestVersions | AllVersions | SpecificVersions):
        return value
    try:
        if isinstance(value, dict) and "latest" in value:
            return LatestVersions.model_validate(value)
        return SpecificVersions.model_validate(value)
    except ValidationError as error:
        raise ValueError("write all, {latest: 2} or {specific: [3, 4]}") from error


class ModelConfiguration(FrozenModel):
    """The content of a model's `config.yaml`; anything left out follows the server's settings.

    Attributes:
        version_policy: Which versions should be available.
        labels: Versions by label. A labelled version is available whatever the policy says.
        shadow: Which labelled version is compared with which; None for no comparison.
        max_batch_size: Maximum rows in one batch.
        max_queue_size: Maximum waiting rows.
        max_queue_delay_seconds: How long a batch that is not full waits for more requests.
        max_concurrent_executions: Maximum batches that run at the same time.
        intra_op_threads: Threads per inference.
        provider: The execution provider.
        precision_policy: Whether a float32 network may be computed in lower precision.
        triton_interface: What Triton's clients see of the model.
    """

    version_policy: Annotated[VersionPolicy, BeforeValidator(_read_policy)] = LatestVersions()
    labels: dict[Label, PositiveInt] = Field(default_factory=dict)
    shadow: ShadowSettings | None = None
    max_batch_size: BatchSize | None = None
    max_queue_size: QueueSize | None = None
    max_queue_delay_seconds: QueueDelaySeconds | None = None
    max_concurrent_executions: Annotated[ConcurrentExecutions, Field(ge=1)] | None = None
    intra_op_threads: IntraOpThreads | None = None
    provider: ProviderChoice | None = None
    precision_policy: PrecisionPolicy | None = None
    triton_interface: TritonInterface | None = None

    def engine_settings(self) -> dict[str, Any]:
        """The overridden settings that a servable is loaded with, by name."""
        return self.model_dump(exclude={"version_policy", "labels", "shadow"}, exclude_none=True)

    @field_validator("shadow")
    @classmethod
    def _compares_two_labels(
        cls, shadow: ShadowSettings | None, info: ValidationInfo
    ) -> ShadowSettings | None:
        # Labels that are refused have an error of their own.
        labels = info.data.get("labels")
        if shadow is None or labels is None:
            return shadow
        if missing := [one for one in (shadow.live, shadow.candidate) if one not in labels]:
            raise ValueError(f"labels has no '{missing[0]}': give the label a version")
        if labels[shadow.live] == labels[shadow.candidate]:
            raise ValueError("live and candidate are the same version: compare two versions")
        return shadow


def parse_configuration(data: bytes) -> ModelConfiguration:
    """Parse the content of a `config.yaml`.

    Raises:
        ConfigurationError: It is not YAML, or has an unknown key or an invalid value.
    """
    try:
        mapping = decode_yaml(data)
    except StrictYamlError as error:
        raise ConfigurationError(error.public, detail=error.detail) from error
    try:
        return ModelConfiguration.model_validate(dict(mapping))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigurationError(
            "; ".join(dict.fromkeys(_locate(problem, mapping) for problem in problems)),
            detail="; ".join(_explain(problem) for problem in problems),
        ) from error


class ConfigurationFile:
    """The configuration of one model, which may change at any time.

    While the file is not valid, the last good configuration stays in force.

    Args:
        path: The file; it need not exist.
        read: Reads it; None if there is none. Raises an ArtifactError if it must not be used.

    Attributes:
        problem: Why the file is refused, for everybody; empty if it is not.
    """

    def __init__(self, path: Path, read: Callable[[], bytes | None]) -> None:
        self._path = path
        self._read = read
        self._logged = ""
        self._seen: object = _NEVER
        self._applied: object = _NEVER
        self._good: ModelConfiguration | None = None
        self.problem = ""

    @property
    def configuration(self) -> ModelConfiguration | None:
        """The last good configuration; None if there was none and the file is not valid."""
        return self._good

    @property
    def exists(self) -> bool:
        """Whether the file existed at the last look."""
        return self._seen not in (_NEVER, None)

    def refresh(self) -> None:
        """Look at the file, and read it if it has changed.

        A change is applied one look after it was first seen, if the file has not changed since.
        Many editors empty a file before they write it, and an empty configuration is valid.
        """
        try:
            stamp = _stamp(self._path)
            settled = stamp == self._seen or self._seen is _NEVER
            self._seen = stamp
            if stamp == self._applied or not settled:
                return
            data = self._read()
            configuration = ModelConfiguration() if data is None else parse_configuration(data)
        except (ConfigurationError, ArtifactError, OSError) as error:
            self._refuse(error)
            return
        if self._good is not None and configuration != self._good:
            logger.info("%s: new configuration in force: %s", self._path, configuration)
        self._applied, self._good, self.problem = stamp, configuration, ""
        self._logged = ""

    def _refuse(self, error: Exception) -> None:
        stays = "; the last good configuration stays in force" if self._good is not None else ""
        self.problem = f"{self._path.name} is refused: {public_reason(error)}{stays}"
        if str(error) != self._logged:
            logger.error("%s is refused: %s%s", self._path, one_line(str(error)), stays)
        self._logged = str(error)


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _locate(problem: Any, mapping: YamlMapping) -> str:  # noqa: ANN401
    """Where something is wrong; only keys that convd knows are named."""
    key = str(problem["loc"][0])
    line = f"line {mapping.lines[key]}: " if key in mapping.lines else ""
    if key in ModelConfiguration.model_fields:
        return f"{line}{key} has a value that cannot be used; the server's log says why"
    return f"{line}unknown key; the server's log names it"


def _explain(problem: Any) -> str:  # noqa: ANN401
    key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, ModelConfiguration.model_fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean {nearest[0]}?" if nearest else "")
    return f"{key}: {str(problem['msg']).removeprefix('Value error, ')}"
