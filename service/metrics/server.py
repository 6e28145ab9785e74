"""All metrics of one server."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from convd.artifact.errors import ArtifactError
from convd.artifact.manifest import Manifest
from convd.runtime.errors import SessionError
from convd.runtime.selftest import SelfTestError
from convd.service.metrics.gpu import register_gpu_metrics
from convd.service.metrics.principals import PrincipalMetrics
from convd.service.metrics.process import register_process_metrics
from convd.service.metrics.requests import RequestMetrics
from convd.service.metrics.servables import ServableMetrics
from convd.service.metrics.version import VersionMetrics


class Metrics:
    """All metrics of one server.

    Attributes:
        registry: Collects the metrics.
        principals: Counts the calls of each principal.
    """

    def __init__(self) -> None:
        # Creation times would add a series to every counter and are not used.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        register_process_metrics(self.registry)
        register_gpu_metrics(self.registry)
        self._requests = RequestMetrics(self.registry)
        self._servables = ServableMetrics(self.registry)
        self._load_failures = Counter(
            "convd_load_failures",
            "Failed loads of a version by cause: golden (wrong answers in the self-test), artifact "
            "(incomplete or altered files), engine or other.",
            ["model", "version", "cause"],
            registry=self.registry,
        )
        self._configuration_refused = Gauge(
            "convd_model_configuration_refused",
            "1 if the model's config.yaml is refused and the last good one stays in force, else 0.",
            ["model"],
            registry=self.registry,
        )
        self._repository_unreadable = Gauge(
            "convd_repository_unreadable",
            "1 if the last look at the repository or at one of its models failed, else 0.",
            registry=self.registry,
        )
        self._certificate_expires = Gauge(
            "convd_tls_certificate_expires_seconds",
            "When the certificate in force ends to be valid, in seconds since 1970; 0 without TLS.",
            registry=self.registry,
        )
        self._cache_bytes = Gauge(
            "convd_response_cache_bytes",
            "Memory used by the response cache.",
            registry=self.registry,
        )
        self.request_answered = self._requests.answered
        self.principals = PrincipalMetrics(self.registry)

    def for_version(self, model: str, version: int, manifest: Manifest) -> VersionMetrics:
        """The metrics of one version, with their labels already resolved."""
        return VersionMetrics(self._servables, model, str(version), manifest)

    def repository_read(self, *, problem: bool, refused_configurations: Mapping[str, bool]) -> None:
        """Export the result of the last look at the repository."""
        self._repository_unreadable.set(problem)
        for model, refused in refused_configurations.items():
            self._configuration_refused.labels(model).set(refused)

    def certificate_read(self, expires_at: float) -> None:
        """Export when the certificate in force ends to be valid, in seconds since 1970."""
        self._certificate_expires.set(expires_at)

    def watch_cache(self, size_bytes: Callable[[], int]) -> None:
        """Export the size of the response cache."""
        self._cache_bytes.set_function(size_bytes)

    @contextmanager
    def loading(self, model: str, version: int) -> Iterator[None]:
        """Count the load if it fails."""
        try:
            yield
        except Exception as error:
            self._load_failures.labels(model, str(version), _cause(error)).inc()
            raise

    def watch_readiness(self, unready_reason: Callable[[], str]) -> None:
        """Export whether the server is ready."""
        ready = Gauge("convd_ready", "1 if the server is ready, else 0.", registry=self.registry)
        ready.set_function(lambda: float(not unready_reason()))

    def watch_calls(self, waiting_calls: Callable[[], int], *, limit: int) -> None:
        """Export how many calls are waiting for a thread, and the limit."""
        waiting = Gauge(
            "convd_waiting_calls", "Unary calls waiting for a thread.", registry=self.registry
        )
        waiting.set_function(waiting_calls)
        Gauge(
            "convd_waiting_calls_limit",
            "Maximum unary calls waiting for a thread; more are refused before they are counted.",
            registry=self.registry,
        ).set(limit)

    def forget(self, model: str, version: str) -> None:
        """Drop the series of one version."""
        self._requests.forget(model, version)
        self._servables.forget(model, version)
        self._load_failures.remove_by_labels({"model": model, "version": version})


def _cause(error: Exception) -> str:
    if isinstance(error.__cause__, SelfTestError):
        return "golden"
    if isinstance(error, SessionError):
        return "engine"
    return "artifact" if isinstance(error, ArtifactError) else "other"
