"""A servable: one model version, loaded, proved and ready to answer."""

import threading

import numpy as np

from artifact.bundle import MODEL_FILE, Artifact
from artifact.manifest import Manifest
from artifact.repository import ModelRepository
from runtime.providers import CPU
from runtime.selftest import run_self_test
from runtime.session import Session
from service.batching.batcher import Batcher
from service.lifecycle.configuration import ModelConfiguration
from service.metrics import Metrics, VersionMetrics
from service.settings import ServerSettings


class Servable:
    """One model version in memory.

    Args:
        name: The model.
        version: Its version.
        manifest: The artifact's manifest.
        session: The loaded network.
        batcher: Runs rows of many requests together.
        golden_difference: What the self-test saw.
        metrics: Where it counts what it does.
    """

    def __init__(
        self,
        name: str,
        version: int,
        manifest: Manifest,
        session: Session,
        batcher: Batcher,
        golden_difference: float,
        metrics: VersionMetrics,
    ) -> None:
        self.name = name
        self.version = version
        self.manifest = manifest
        self.session = session
        self.batcher = batcher
        self.golden_difference = golden_difference
        self.metrics = metrics
        self._holders = 0
        self._released = threading.Condition()

    def retain(self) -> None:
        """Count one more holder; the servable is not unloaded before it is released."""
        with self._released:
            self._holders += 1

    def release(self) -> None:
        """Count one holder less."""
        with self._released:
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

    def describe(self) -> str:
        """One line for people: what it is and where it runs."""
        accuracy = self.manifest.accuracy
        proof = f"golden difference {self.golden_difference:.1e}"
        quality = f", accuracy {accuracy.top1:.2%}" if accuracy else ""
        return (
            f"{self.name} version {self.version} on {self.session.provider.name} "
            f"({len(self.manifest.labels)} classes, {proof}{quality})"
        )


class ServableLoader:
    """Makes servables of published versions.

    Args:
        repository: Where the versions are.
        settings: The server's settings.
        metrics: Where the servables count what they do.
    """

    def __init__(
        self, repository: ModelRepository, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self._repository = repository
        self._settings = settings
        self._metrics = metrics

    def __call__(self, name: str, version: int, configuration: ModelConfiguration) -> Servable:
        """Read, check, prove and warm up one version.

        Args:
            name: The model.
            version: Its version.
            configuration: The model's own settings, which go before the server's.

        Raises:
            ArtifactError: It is incomplete, altered or does not give its golden answers.
        """
        settings = self._settings.model_copy(update=configuration.engine_settings())
        artifact = Artifact.open(self._repository.version_path(name, version))
        artifact.check_all_files()
        session = Session(
            artifact.read(MODEL_FILE), CPU, intra_op_threads=settings.intra_op_threads
        )
        difference = run_self_test(artifact, session)
        self._warm_up(artifact, session, settings.max_batch_size)
        version_metrics = self._metrics.for_version(name, version)
        batcher = Batcher(
            session.run,
            max_batch_size=settings.max_batch_size,
            max_queue_size=settings.max_queue_size,
            max_queue_delay_seconds=settings.max_queue_delay_seconds,
            observer=version_metrics,
        )
        version_metrics.watch_queue(batcher)
        return Servable(
            name, version, artifact.manifest, session, batcher, difference, version_metrics
        )

    def _warm_up(self, artifact: Artifact, session: Session, max_batch_size: int) -> None:
        """Run every power of two up to the largest batch, so that no caller meets a cold size."""
        shape = artifact.manifest.preprocessing.output_shape
        size = 1
        while size < max_batch_size:
            session.run(np.zeros((size, *shape), np.uint8))
            size *= 2
        session.run(np.zeros((max_batch_size, *shape), np.uint8))
