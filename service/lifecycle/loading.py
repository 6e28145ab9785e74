"""Loading: makes a servable of a published version once its self-test has passed."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.class_activation import read_class_weights
from convd.artifact.precision import Precision
from convd.artifact.repository import ModelRepository
from convd.runtime.choice import prove_session
from convd.runtime.cores import CoreBudget
from convd.runtime.provider import ExecutionProvider
from convd.runtime.rehearsal import Rehearsals
from convd.runtime.session import Session
from convd.service.batching.batcher import Batcher
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.metrics import Metrics
from convd.service.servables.caching_batcher import CachingBatcher
from convd.service.servables.instances import faster_instances
from convd.service.servables.response_cache import ResponseCache
from convd.service.servables.servable import Servable
from convd.service.servables.warmup import engine_of, warm_up
from convd.service.settings import ServerSettings

logger = logging.getLogger(__name__)

_EXPIRY_DAYS = 30
_TRIAL_SHARE = 10
"""The first runs of a model may take this many times longer than others wait for it."""


def _warn_of_expiry(name: str, version: int, artifact: Artifact) -> None:
    if artifact.signed is None:
        return
    days = (artifact.signed.about.expires_at - datetime.now(UTC)).days
    if days < _EXPIRY_DAYS:
        logger.warning(
            "the signature of %s version %d expires in %d days, and then it cannot be loaded "
            "again: sign it with 'convd sign'",
            name,
            version,
            days,
        )


class ServableLoader:
    """Makes servables of published versions.

    Args:
        repository: Holds the versions.
        settings: The server's settings.
        metrics: The metrics of all servables.
        cores: The budget of cores that all servables share.
        cache: The response cache that all servables share; None for no cache.
    """

    def __init__(
        self,
        repository: ModelRepository,
        settings: ServerSettings,
        metrics: Metrics,
        cores: CoreBudget,
        cache: ResponseCache | None = None,
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._metrics = metrics
        self._cores = cores
        self._cache = cache
        self._rehearsals: Rehearsals | None = None
        if settings.load_memory_bytes:
            self._rehearsals = Rehearsals(
                settings.load_memory_bytes, _TRIAL_SHARE * settings.load_patience_seconds
            )
        self._rehearsed: set[str] = set()

    def __call__(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        """Read, check, self-test and warm up one version.

        Args:
            name: The model.
            version: Its version.
            configuration: The model's own settings, which override the server's.

        Raises:
            ArtifactError: It is incomplete or altered, or does not reproduce its golden answers.
        """
        with self._metrics.loading(name, version):
            return self._prove(name, version, configuration)

    def _prove(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        settings = self._settings.model_copy(update=configuration.engine_settings())
        artifact = self._repository.open_version(name, version)
        artifact.check_all_files()
        _warn_of_expiry(name, version, artifact)
        self._rehearse(artifact)
        proven = prove_session(
            artifact,
            partial(self._load, settings, artifact.manifest.precision),
            wanted=settings.provider,
            policy=settings.precision_policy,
        )
        session = proven.session
        costs = warm_up(session, artifact.manifest.preprocessing.output_shape)
        session.end_trial()
        instances = faster_instances(artifact, session, costs, settings)
        version_metrics = self._metrics.for_version(name, version, artifact.manifest)
        make_batcher: Callable[..., Batcher] = Batcher
        if self._cache is not None:
            make_batcher = partial(
                CachingBatcher, cache=self._cache, on_look_up=version_metrics.cache_looked_up
            )
        batcher = make_batcher(
            engine_of(session, costs, settings.max_batch_size),
            instances and instances.engine,
            max_queue_size=settings.max_queue_size,
            max_queue_delay_seconds=settings.max_queue_delay_seconds,
            observer=version_metrics,
        )
        return Servable(
            name,
            version,
            artifact.manifest,
            proven,
            costs,
            instances,
            batcher,
            version_metrics,
            settings,
            read_class_weights(artifact),
        )

    def rest(self) -> None:
        """Free what is kept for the next load."""
        if self._rehearsals is not None:
            self._rehearsals.close()

    def _rehearse(self, artifact: Artifact) -> None:
        checksum = artifact.manifest.files.get(str(MODEL_FILE))
        # A network that is not listed is refused when it is read.
        if self._rehearsals is None or checksum is None or checksum in self._rehearsed:
            return
        self._rehearsals.rehearse(
            artifact.folder, checksum, artifact.manifest.preprocessing.output_shape
        )
        self._rehearsed.add(checksum)

    def _load(
        self,
        settings: ServerSettings,
        precision: Precision,
        model: bytes,
        provider: ExecutionProvider,
    ) -> Session:
        return Session(
            model,
            provider,
            precision=precision,
            intra_op_threads=settings.intra_op_threads,
            max_batch_size=settings.max_batch_size,
            max_concurrent_executions=settings.max_concurrent_executions,
            gpu_memory_limit_bytes=settings.gpu_memory_limit_bytes,
            cores=self._cores,
            trial_seconds=_TRIAL_SHARE * settings.load_patience_seconds,
        )
