"""What every server of models has, whatever transport it answers over."""

from collections.abc import Callable, Sequence

from convd.runtime.cores import CoreBudget, available_cores
from convd.service.calls.admission import open_access
from convd.service.calls.recorder import CallRecorder
from convd.service.calls.tracing import Tracer, open_tracer
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.manager import Everywhere, ServableManager
from convd.service.lifecycle.served_repository import open_mirror, open_repository
from convd.service.lifecycle.triton_metrics import TritonCollector
from convd.service.lifecycle.version_metrics import VersionCollector
from convd.service.metrics import Metrics
from convd.service.protocols.classification import ClassificationServicer
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.servables.response_cache import ResponseCache
from convd.service.settings import ServerSettings
from convd.service.shadow.metrics import ShadowCollector
from convd.service.shadow.report import ComparisonReport
from convd.service.shadow.shadowing import Shadowing
from convd.service.statistics import StatisticsByVersion

_MAX_LOADING_THREADS = 4


class ServerCore:
    """Loads the models of a repository, and has the servicers that answer messages about them.

    Args:
        settings: The server's settings.
        metrics: Its metrics; None to create them.
        tracer: Traces calls; None to follow the settings and the environment.
        cores: Number of cores for inference; None for all.
        on_change: Called after every change of a version's status, by one thread at a time.
        on_look: Called after every look at the repository.
        everywhere: Makes every worker load or unload a model; None for a single process.
        statistics: Returns the statistics of all workers; None for a single process.
        comparisons: Returns what the workers' comparisons have found; None for a single process.

    Attributes:
        metrics: Its metrics.
        cores: The budget of cores that its models share.
        repository: Holds the artifacts.
        catalog: Holds the loaded versions.
        manager: Loads and unloads them.
        inference: The use case.
        shadowing: Compares versions.
        classification: Answers in convd's own protocol.
        open_inference: Answers in the Open Inference Protocol.
        recorder: Records every call.
        access: Decides who may do what; None where anyone may do everything.

    Raises:
        RepositoryError: The repository does not exist or cannot be read.
        SigningKeyError: The public key for signatures cannot be read.
        SettingsError: A file that the settings name cannot be used, or traces are configured, but
            OpenTelemetry is not installed.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
        *,
        cores: int | None = None,
        on_change: Callable[[VersionStatus], None] = lambda _status: None,
        on_look: Callable[[], None] = lambda: None,
        everywhere: Everywhere | None = None,
        statistics: Callable[[], StatisticsByVersion] | None = None,
        comparisons: Callable[[], Sequence[ComparisonReport]] | None = None,
    ) -> None:
        self._batch_timeout_seconds = settings.batch_timeout_seconds
        self._on_look = on_look
        self._tracer = tracer or open_tracer(settings.traces_endpoint)
        self.metrics = metrics or Metrics()
        self.catalog = Catalog()
        self.cores = CoreBudget(cores or available_cores())
        cache = None
        if settings.response_cache_bytes:
            cache = ResponseCache(settings.response_cache_bytes)
            self.metrics.watch_cache(lambda: cache.size_bytes)
        mirror = open_mirror(settings)
        self.repository = open_repository(settings, mirror)
        self._loader = ServableLoader(self.repository, settings, self.metrics, self.cores, cache)
        self.manager = ServableManager(
            self.repository,
            self.catalog,
            self._loader,
            poll_seconds=None if settings.poll_seconds == "never" else settings.poll_seconds,
            patience_seconds=settings.load_patience_seconds,
            loading_threads=min(self.cores.cores, _MAX_LOADING_THREADS),
            on_change=on_change,
            on_look=self._looked,
            everywhere=everywhere,
            mirror=mirror,
        )
        self.inference = InferenceService.of(self.catalog, settings)
        self.shadowing = Shadowing(self.inference, lambda: self.manager.shadows)
        self.recorder = CallRecorder(
            self.metrics, self._tracer, access_log_sample_rate=settings.access_log_sample_rate
        )
        self.access = open_access(settings, self.metrics.principals, workers=settings.workers)
        self.classification = ClassificationServicer(
            self.inference, comparisons or self.shadowing.reports
        )
        self.open_inference = OpenInferenceServicer(
            self.inference, self.manager, settings, statistics
        )
        VersionCollector(self.metrics.registry, self.catalog.statuses, self.metrics.forget)
        ShadowCollector(self.metrics.registry, self.shadowing)
        if settings.triton_metrics:
            TritonCollector(self.metrics.registry, self.catalog.statuses)
        self.metrics.watch_readiness(self.manager.unready_reason)

    def stuck_reason(self) -> str:
        """Which batch has run for so long that only an end of the process helps; empty for none."""
        seconds, whose = self.catalog.longest_batch()
        if seconds <= self._batch_timeout_seconds:
            return ""
        return f"a batch of {whose} has been running for {seconds:.0f} s"

    def close(self, timeout_seconds: float) -> None:
        """Stop following files, and send the traces that are left within this time."""
        if self.access is not None:
            self.access.close()
        if self._tracer is not None:
            self._tracer.close(timeout_seconds)

    def _looked(self) -> None:
        self._loader.rest()
        self.shadowing.refresh()
        self.metrics.repository_read(
            problem=bool(self.manager.repository_problem),
            refused_configurations=self.manager.refused_configurations,
        )
        self._on_look()
