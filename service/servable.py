"""A servable: one model version, loaded, proved and ready to answer."""

import math
import threading
from collections.abc import Callable
from functools import partial

from convd.artifact.bundle import Artifact
from convd.artifact.manifest import Manifest
from convd.artifact.repository import ModelRepository
from convd.artifact.signature import read_public_key
from convd.runtime.choice import ProvenSession, prove_session
from convd.runtime.cores import CoreBudget
from convd.runtime.providers import ExecutionProvider
from convd.runtime.session import Session
from convd.service.batching.batcher import Batcher
from convd.service.instances import Instances, faster_instances
from convd.service.lifecycle.configuration import ModelConfiguration
from convd.service.metrics import Metrics, VersionMetrics
from convd.service.servables.caching_batcher import CachingBatcher
from convd.service.servables.response_cache import ResponseCache
from convd.service.settings import ServerSettings
from convd.service.warmup import BatchCost, engine_of, warm_up


class Servable:
    """One model version in memory.

    Args:
        name: The model.
        version: Its version.
        manifest: The artifact's manifest.
        proven: The loaded network, with its proof.
        costs: What a batch of each size costs here.
        instances: What runs batches on a core each while requests are many; None where they run as
            they do while requests are few.
        batcher: Runs rows of many requests together.
        metrics: Where it counts what it does.
        settings: The server's settings, with the model's own in place of them.
    """

    def __init__(
        self,
        name: str,
        version: int,
        manifest: Manifest,
        proven: ProvenSession,
        costs: tuple[BatchCost, ...],
        instances: Instances | None,
        batcher: Batcher,
        metrics: VersionMetrics,
        settings: ServerSettings,
    ) -> None:
        self.name = name
        self.version = version
        self.manifest = manifest
        # Every request asks for these.
        self.version_text = str(version)
        self.image_shape = manifest.preprocessing.output_shape
        self.image_bytes = math.prod(self.image_shape)
        self.session = proven.session
        self.golden_difference = proven.golden_difference
        self.refusals = proven.refusals
        self.costs = costs
        self.instances = instances
        self.batcher = batcher
        self.metrics = metrics
        self.settings = settings
        self._holders = 0
        # Every request takes it, and to take it through the condition costs twice as much.
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)

    def retain(self) -> None:
        """Count one more holder; the servable is not unloaded before it is released."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Count one holder less."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                self._released.notify_all()

    def drain(self, timeout_seconds: float) -> bool:
        """Wait until nobody holds the servable; False if that takes too long."""
        with self._released:
            return self._released.wait_for(lambda: self._holders == 0, timeout_seconds)

    def close(self) -> None:
        """Answer nobody any more: whoever still waits is refused."""
        self.batcher.close()
        self.metrics.close()

    def describe(self) -> str:
        """For people: what it is, where it runs and why there, and how fast it is."""
        accuracy = self.manifest.accuracy
        proof = f"golden difference {self.golden_difference:.1e}"
        quality = f", accuracy {accuracy.top1:.2%}" if accuracy else ""
        count = self.session.threads
        threads = f", {count} thread{'s' if count > 1 else ''}" if count else ""
        lines = [
            f"{self.name} version {self.version} on {self.session.provider}{threads} "
            f"({len(self.manifest.labels)} classes, {proof}{quality})"
        ]
        lines += [f"  not on {refusal}" for refusal in self.refusals]
        lines.append(f"  images per second by batch size: {_rates(self.costs)}")
        if self.instances is not None:
            executions = self.instances.session.max_concurrent_executions
            lines.append(
                f"  under load {executions} batches at a time, a core each: "
                f"{_rates(self.instances.costs)}"
            )
        return "\n".join(lines)


class ServableLoader:
    """Makes servables of published versions.

    Args:
        repository: Where the versions are.
        settings: The server's settings.
        metrics: Where the servables count what they do.
        cores: What all servables share the cores with.
        cache: Where all servables keep answers; None for nowhere.

    Raises:
        SigningKeyError: The key of the required signature cannot be read.
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
        required = settings.require_signature
        self._signed_by = read_public_key(required) if required else None

    def __call__(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        """Read, check, prove and warm up one version.

        Args:
            name: The model.
            version: Its version.
            configuration: The model's own settings, which go before the server's.

        Raises:
            ArtifactError: It is incomplete, altered or does not give its golden answers.
        """
        with self._metrics.loading(name, version):
            return self._prove(name, version, configuration)

    def _prove(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        settings = self._settings.model_copy(update=configuration.engine_settings())
        path = self._repository.version_path(name, version)
        artifact = Artifact.open(path, signed_by=self._signed_by)
        artifact.check_all_files()
        proven = prove_session(
            artifact,
            partial(self._load, settings),
            wanted=settings.provider,
            policy=settings.precision_policy,
        )
        session = proven.session
        costs = warm_up(session, artifact.manifest.preprocessing.output_shape)
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
        )

    def _load(self, settings: ServerSettings, model: bytes, provider: ExecutionProvider) -> Session:
        return Session(
            model,
            provider,
            intra_op_threads=settings.intra_op_threads,
            max_batch_size=settings.max_batch_size,
            max_concurrent_executions=settings.max_concurrent_executions,
            gpu_memory_limit_bytes=settings.gpu_memory_limit_bytes,
            cores=self._cores,
        )


def _rates(costs: tuple[BatchCost, ...]) -> str:
    return ", ".join(f"{cost.rows}: {cost.images_per_second:.0f}" for cost in costs)
