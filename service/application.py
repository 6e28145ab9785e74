"""One server process: puts the parts together, runs them, and drains them."""

import logging
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from convd.runtime.cores import CoreBudget, available_cores
from convd.service.address import join_address
from convd.service.allocator import return_large_blocks
from convd.service.calls.admission import open_access
from convd.service.calls.gate import CallGate
from convd.service.calls.recorder import CallRecorder
from convd.service.calls.tracing import Tracer, open_tracer
from convd.service.garbage import collect_and_freeze, collect_rarely
from convd.service.inference.service import InferenceService
from convd.service.lifecycle.catalog import Catalog, VersionStatus
from convd.service.lifecycle.loading import ServableLoader
from convd.service.lifecycle.manager import Everywhere, ServableManager
from convd.service.lifecycle.policy import State
from convd.service.lifecycle.served_repository import open_mirror, open_repository
from convd.service.lifecycle.triton_metrics import TritonCollector
from convd.service.lifecycle.version_metrics import VersionCollector
from convd.service.metrics import Metrics
from convd.service.protocols.classification import ClassificationServicer
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.rpc.server import GrpcServer
from convd.service.servables.response_cache import ResponseCache
from convd.service.settings import (
    ServerSettings,
    drain_limit_seconds,
    exposure,
    http_pages,
)
from convd.service.statistics import StatisticsByVersion
from convd.service.termination import CALLS_CUT, Termination
from convd.service.tls import TlsFiles
from convd.service.web.actions import Actions
from convd.service.web.opening import open_http

logger = logging.getLogger(__name__)

_MAX_LOADING_THREADS = 4


class Application:
    """One server process.

    Args:
        settings: The server's settings.
        metrics: Its metrics; None to create them.
        tracer: Traces calls; None to follow the settings and the environment.
        cores: Number of cores for inference; None for all.
        is_worker: Whether it is one of several that share the gRPC port, with HTTP served by their
            supervisor.
        everywhere: Makes every worker load or unload a model; None for a single process.
        statistics: Returns the statistics of all workers; None for a single process.

    Attributes:
        actions: Answers the requests over HTTP that need a model.
        cores: The budget of cores that its models share.

    Raises:
        RepositoryError: The repository does not exist or cannot be read.
        SigningKeyError: The public key for signatures cannot be read.
        BindError: A port is in use or not allowed.
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
        is_worker: bool = False,
        everywhere: Everywhere | None = None,
        statistics: Callable[[], StatisticsByVersion] | None = None,
    ) -> None:
        self._settings = settings
        self._is_worker = is_worker
        self._joined = False
        self._owns_process = False
        self._tracer = tracer or open_tracer(settings.traces_endpoint)
        self._metrics = metrics or Metrics()
        self._catalog = Catalog()
        self.cores = CoreBudget(cores or available_cores())
        cache = None
        if settings.response_cache_bytes:
            cache = ResponseCache(settings.response_cache_bytes)
            self._metrics.watch_cache(lambda: cache.size_bytes)
        mirror = open_mirror(settings)
        repository = open_repository(settings, mirror)
        self._loader = ServableLoader(repository, settings, self._metrics, self.cores, cache)
        self._manager = ServableManager(
            repository,
            self._catalog,
            self._loader,
            poll_seconds=None if settings.poll_seconds == "never" else settings.poll_seconds,
            patience_seconds=settings.load_patience_seconds,
            loading_threads=min(self.cores.cores, _MAX_LOADING_THREADS),
            on_change=self._version_changed,
            on_look=self._looked,
            everywhere=everywhere,
            mirror=mirror,
        )
        inference = InferenceService.of(self._catalog, settings)
        recorder = CallRecorder(
            self._metrics, self._tracer, access_log_sample_rate=settings.access_log_sample_rate
        )
        self._tls = TlsFiles.of(settings, self._metrics.certificate_read)
        self._access = open_access(settings, self._metrics.principals, workers=settings.workers)
        classification = ClassificationServicer(inference)
        open_inference = OpenInferenceServicer(inference, self._manager, settings, statistics)
        self._grpc = GrpcServer(
            classification,
            open_inference,
            recorder,
            settings,
            access=self._access,
            tls=self._tls,
            shares_port=is_worker,
        )
        self._http_calls = CallGate()
        self.actions = Actions(
            inference,
            classification,
            open_inference,
            repository,
            recorder,
            self._http_calls,
            access=self._access,
            max_message_bytes=settings.max_message_bytes,
        )
        self._http = None
        if not is_worker:
            self._http = open_http(
                settings,
                self.registry,
                self.unready_reason,
                self.actions.answer,
                access=self._access,
                tls=self._tls,
                stuck_reason=self.stuck_reason,
            )
        VersionCollector(self.registry, self._catalog.statuses, self._metrics.forget)
        self._metrics.watch_calls(self._grpc.waiting_calls, limit=settings.max_waiting_calls)
        if settings.triton_metrics:
            TritonCollector(self.registry, self._catalog.statuses)
        self._metrics.watch_readiness(self._manager.unready_reason)
        self._unready_reason = "loading"
        self._shown: set[tuple[str, int]] = set()

    @property
    def grpc_port(self) -> int:
        """The gRPC port."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port of metrics, health and the console; 0 for none."""
        return self._http.port if self._http else 0

    @property
    def registry(self) -> CollectorRegistry:
        """Collects its metrics."""
        return self._metrics.registry

    @property
    def manager(self) -> ServableManager:
        """Loads and unloads its models."""
        return self._manager

    def statistics(self) -> StatisticsByVersion:
        """The statistics of every loaded version in this process."""
        return self._catalog.statistics()

    def own_process(self) -> None:
        """Tune the process's memory; call it only if the process runs nothing else."""
        self._owns_process = True
        collect_rarely()
        return_large_blocks()

    def start(self) -> None:
        """Start answering; models load in the background, and readiness follows them."""
        if self._http:
            self._http.start()
        # A worker joins the others only once its models are loaded.
        if not self._is_worker:
            self._grpc.start()
        self._manager.start()

    def unready_reason(self) -> str:
        """Why the server is not ready; empty if it is."""
        reason = self._manager.unready_reason()
        return reason or ("not listening yet" if self._is_worker and not self._joined else "")

    def stuck_reason(self) -> str:
        """Which batch has run for so long that only an end of the process helps; empty for none."""
        seconds, whose = self._catalog.longest_batch()
        if seconds <= self._settings.batch_timeout_seconds:
            return ""
        return f"a batch of {whose} has been running for {seconds:.0f} s"

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain.

        Returns:
            The exit code: 0, or CALLS_CUT where calls were cut.
        """
        termination = Termination(drain_limit_seconds(self._settings), self._manager.look_now)
        termination.install()
        self.own_process()
        self.start()
        if exposed := exposure(self._settings):
            logger.warning("insecure: on %s, %s", self._settings.host, exposed)
        logger.info(
            "serving gRPC on %s; %s on %s://%s",
            join_address(self._settings.host, self.grpc_port),
            http_pages(self._settings),
            "https" if self._tls else "http",
            join_address(self._settings.host, self.http_port),
        )
        termination.wait()
        return CALLS_CUT if self.drain() else 0

    def drain(self) -> int:
        """Refuse new calls, finish the accepted ones, then stop.

        Returns:
            Number of accepted calls that were cut off, because the time was up.
        """
        self._manager.stop_polling()
        if self._settings.lame_duck_seconds:
            logger.info(
                "not ready, but accepting calls for another %g s", self._settings.lame_duck_seconds
            )
            self._grpc.say_draining()
            time.sleep(self._settings.lame_duck_seconds)
        logger.info("draining for up to %g s", self._settings.drain_seconds)
        started = time.monotonic()
        self._http_calls.close()
        cut = self._grpc.drain(self._settings.drain_seconds)
        remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
        self._http_calls.wait_until_empty(max(remaining_seconds, 0.0))
        cut += len(self._http_calls.in_progress)
        remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
        self._manager.unload_all(max(remaining_seconds, 0.1))
        if self._http:
            self._http.stop()
        for followed in (self._tls, self._access):
            if followed is not None:
                followed.close()
        if self._tracer is not None:
            remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
            self._tracer.close(max(remaining_seconds, 0.5))
        seconds = time.monotonic() - started
        if cut:
            logger.error("stopped after %.1f s; %d calls were cut", seconds, cut)
        else:
            logger.info("stopped after %.1f s", seconds)
        return cut

    def _version_changed(self, status: VersionStatus) -> None:
        self._grpc.set_serving(status.name, serving=self._catalog.newest(status.name) is not None)
        if self._owns_process and status.state in (State.AVAILABLE, State.UNLOADED):
            collect_and_freeze()

    def _looked(self) -> None:
        self._loader.rest()
        if self._is_worker and not self._joined and self._manager.unready_reason() != "draining":
            self._grpc.start()
            self._joined = True
        self._metrics.repository_read(
            problem=bool(self._manager.repository_problem),
            refused_configurations=self._manager.refused_configurations,
        )
        versions = {(status.name, status.version) for status in self._catalog.statuses()}
        for name in {name for name, _ in self._shown} - {name for name, _ in versions}:
            self._grpc.forget_health(name)
        self._shown = versions
        self._show_readiness()

    def _show_readiness(self) -> None:
        reason = self._manager.unready_reason()
        if reason != self._unready_reason:
            self._unready_reason = reason
            logger.info("ready" if not reason else f"not ready: {reason}")
            self._grpc.set_serving("", serving=not reason)
