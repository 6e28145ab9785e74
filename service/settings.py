"""The settings of `convd serve`, each with its bounds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from convd.artifact.errors import RepositoryError
from convd.artifact.object_storage import URL_PATTERN
from convd.artifact.repository import check_model_name, is_version_name
from convd.runtime.cgroup import memory_limit_bytes
from convd.runtime.choice import PROVIDER_CHOICES, PrecisionPolicy, ProviderChoice
from convd.service.address import is_loopback

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
TEBIBYTE = 1024 * GIBIBYTE
LEAST_DECODE_BUDGET_BYTES = 16 * MEBIBYTE
ENVIRONMENT_PREFIX = "CONVD_"

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# A value beyond such a bound is a typing error, which would otherwise break the server much later
# or silently. A model's config.yaml has the same bounds.
BatchSize = Annotated[int, Field(ge=1, le=4096)]
QueueSize = Annotated[int, Field(ge=1, le=1_000_000)]
QueueDelaySeconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
TritonInterface = Literal["full", "image"]
ConcurrentExecutions = Annotated[int, Field(ge=0, le=256)]
IntraOpThreads = Annotated[int, Field(ge=0, le=1024)]


def _in_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


StorageUrl = Annotated[str, Field(pattern=URL_PATTERN)]
"""A place in object storage."""

Instant = Annotated[datetime, AfterValidator(_in_utc)]


class SettingsError(Exception):
    """A setting is unknown or has an unusable value."""


class ServerSettings(BaseSettings):
    """All settings of `convd serve`.

    Each field's description is its help text on the command line and in the documents.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    repository: StorageUrl | Path = Field(
        description="Folder with the models to serve, or their place in object storage: "
        "s3://BUCKET/PREFIX, gs:// or az://, which is copied to this machine.",
    )
    repository_cache: Path = Field(
        Path("~/.cache/convd/repositories"),
        description="Folder for copies of repositories from object storage; several servers may "
        "share it.",
    )
    models: str = Field(
        "",
        description="Models to serve, separated by commas, where NAME:VERSION serves this version "
        "only; if empty, all models of the repository.",
    )
    require_signature: Path | None = Field(
        None,
        description="Public key (PEM, P-256 or Ed25519), or several in one file; only versions "
        "that 'convd sign' or 'convd export --sign' signed with the private key of one are served.",
    )
    signed_since: Instant | None = Field(
        None,
        description="With --require-signature: a date such as 2026-11-30 (UTC), or a date and time "
        "with its zone. Signatures made before it no longer count.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for every interface, :: to include IPv6.",
    )
    grpc_port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    http_port: int = Field(
        8002,
        ge=0,
        le=65535,
        description="Port for metrics, health, the console and inference over HTTP; 0 picks a "
        "free one.",
    )
    tls_certificate: Path | None = Field(
        None,
        description="Certificate chain (PEM) for gRPC and HTTPS; read again when it changes.",
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of tls_certificate.")
    tls_client_ca: Path | None = Field(
        None,
        description="Authorities (PEM) of client certificates; callers without one are then "
        "turned away.",
    )
    principals: Path | None = Field(
        None,
        description="File that says who may do what, written by convd token; read again when it "
        "changes. Without it, anyone who can connect may do everything.",
    )
    insecure: bool = Field(
        False,
        description="Allow callers without encryption or without credentials on other addresses "
        "than loopback, as behind a proxy or a mesh that asks for both.",
    )
    reflection: bool = Field(True, description="Describe the services to tools such as grpcurl.")
    allowed_host: str = Field(
        "",
        pattern=r"^ *(\.?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])? *(, *|$))*$",
        description="Host names, separated by commas, by which browsers and Prometheus may reach "
        "the HTTP port, besides IP addresses, localhost and the name in --host; .example.com "
        "stands for all names below it.",
    )
    console: bool = Field(True, description="Serve the browser console at / of the HTTP port.")
    log_format: LogFormat = Field(
        "text", description="text for plain lines, json for one JSON object per line."
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error.")
    access_log_sample_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of calls to log: 0 logs none, 1 logs all.",
    )
    traces_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Where to send traces (OTLP over gRPC): http://HOST:4317, or https. If empty, "
        "OTEL_EXPORTER_OTLP_ENDPOINT decides; without either, there are no traces.",
    )
    provider: ProviderChoice = Field(
        "auto",
        description=f"Execution provider: {', '.join(PROVIDER_CHOICES[1:])}, or auto for the first "
        "of these that is installed, loads the model and reproduces its golden answers.",
    )
    precision_policy: PrecisionPolicy = Field(
        "fastest",
        description="exact runs a float32 network in float32 only; fastest allows lower precision.",
    )
    intra_op_threads: IntraOpThreads = Field(
        0,
        description="Threads per inference; 0 uses every core, or one if the model is too small "
        "to gain from more.",
    )
    max_concurrent_executions: ConcurrentExecutions = Field(
        0,
        description="Batches of one model that may run at the same time. 0 decides: on a GPU 2, so "
        "that one is copied while the other is computed; on a CPU one batch on all cores under "
        "light load, and under heavy load one batch per core if that is not slower.",
    )
    gpu_memory_limit_bytes: int = Field(
        0,
        ge=0,
        le=TEBIBYTE,
        description="Maximum GPU memory of one model; 0 for no limit.",
    )
    max_batch_size: BatchSize = Field(32, description="Maximum rows in one batch.")
    max_queue_size: QueueSize = Field(
        1024, description="Maximum rows waiting for one model; further rows are refused at once."
    )
    max_queue_delay_seconds: QueueDelaySeconds = Field(
        0.0, description="How long a batch that is not full waits for more requests."
    )
    response_cache_bytes: int = Field(
        0,
        ge=0,
        le=TEBIBYTE,
        description="Memory for cached answers, so that a repeated picture is not run again; 0 "
        "turns the cache off.",
    )
    max_images_per_request: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Maximum images in one request; a larger request is refused.",
    )
    max_message_bytes: int = Field(
        64 * MEBIBYTE,
        ge=1024,
        le=2 * GIBIBYTE - 1,
        description="Maximum size of a message, received or sent over gRPC or HTTP.",
    )
    max_image_pixels: int = Field(
        64 * MEBIBYTE,
        ge=1,
        le=GIBIBYTE,
        description="Maximum pixels (height x width) of a picture to decode.",
    )
    decode_budget_bytes: int = Field(
        0,
        ge=0,
        le=TEBIBYTE,
        description="Memory for all pictures being decoded and prepared, divided among the "
        "workers; a request that does not fit waits, or is refused with RESOURCE_EXHAUSTED. 0 "
        "decides: 1 GiB, or a quarter of the container's memory limit if that is less.",
    )
    unary_threads: int = Field(
        64,
        ge=1,
        le=4096,
        description="Maximum unary calls in progress, including those that wait for a batch; twice "
        "max_batch_size keeps batches full.",
    )
    home_core: bool = Field(
        True,
        description="Keep the threads that run Python on one core, where they do not hold up each "
        "other; networks and decoders use every core.",
    )
    http_threads: int = Field(
        16,
        ge=1,
        le=64,
        description="Maximum classify and infer requests over HTTP in progress, including those "
        "that wait for a batch; further ones wait, and are refused if too many do.",
    )
    max_waiting_calls: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Maximum unary calls waiting for a thread; further calls are refused at once.",
    )
    message_timeout_seconds: float = Field(
        20.0,
        ge=0.5,
        le=3600,
        allow_inf_nan=False,
        description="How long a unary call may take to send its message while many calls have not "
        "sent theirs; then it is cancelled.",
    )
    max_calls_per_connection: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Maximum calls in progress on one connection; its client holds back others.",
    )
    max_streams: int = Field(
        16,
        ge=1,
        le=4096,
        description="Maximum open streams; a new one gets the place of the one that has been idle "
        "longest, if that is at least message_timeout_seconds.",
    )
    max_explanations: int = Field(
        2,
        ge=1,
        le=256,
        description="Maximum explanations in progress; further ones get RESOURCE_EXHAUSTED.",
    )
    stream_idle_seconds: float = Field(
        300.0,
        ge=0.5,
        le=86_400,
        allow_inf_nan=False,
        description="A stream on which nothing is sent or received for this long is cancelled.",
    )
    max_health_watches: int = Field(
        1000,
        ge=1,
        le=65_536,
        description="Maximum health watches; further ones get RESOURCE_EXHAUSTED.",
    )
    health_watch_seconds: float = Field(
        3600.0,
        ge=0.5,
        le=604_800,
        allow_inf_nan=False,
        description="How long a health watch lasts; gRPC's clients then begin another one.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes that share the gRPC port. Each loads every model and gets "
        "its share of the cores.",
    )
    worker_silence_seconds: float = Field(
        10.0,
        ge=1,
        le=3600,
        allow_inf_nan=False,
        description="A worker that does not answer its supervisor for this long is killed and "
        "restarted.",
    )
    batch_timeout_seconds: float = Field(
        120.0,
        ge=1,
        le=86_400,
        allow_inf_nan=False,
        description="A worker that has been in one batch for this long is killed and restarted; "
        "with one process, /livez then answers 503.",
    )
    max_connection_age_seconds: float = Field(
        0.0,
        ge=0,
        le=604_800,
        allow_inf_nan=False,
        description="How long a connection lasts before the client is asked to reconnect, so that "
        "load spreads over workers or replicas; 0 means no limit, or 30 with several workers.",
    )
    keepalive_seconds: float = Field(
        7200.0,
        ge=1,
        le=604_800,
        allow_inf_nan=False,
        description="A connection on which nothing arrives for this long is probed; Triton's "
        "grpc-keepalive-time.",
    )
    keepalive_timeout_seconds: float = Field(
        20.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="A probed connection that does not answer for this long is closed.",
    )
    keepalive_without_calls: bool = Field(
        False, description="Also probe, and let clients probe, connections without calls."
    )
    max_pings_without_data: int = Field(
        2,
        ge=0,
        le=1_000_000,
        description="Maximum probes between two messages; 0 for no limit.",
    )
    min_ping_interval_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="Clients that probe a silent connection more often than this are given a "
        "strike.",
    )
    max_ping_strikes: int = Field(
        2,
        ge=0,
        le=1_000_000,
        description="Strikes after which a connection is closed; 0 for no limit.",
    )
    drain_seconds: float = Field(
        30.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="How long accepted calls may take to finish after SIGTERM.",
    )
    load_patience_seconds: float = Field(
        60.0,
        ge=1,
        le=86_400,
        allow_inf_nan=False,
        description="How long a model may load before the other models are loaded without waiting "
        "for it.",
    )
    load_memory_bytes: int = Field(
        4 * GIBIBYTE,
        ge=0,
        le=TEBIBYTE,
        description="Memory that a network may take while it is loaded and run once, besides three "
        "times its file. A process of its own tries that first; 0 turns this off.",
    )
    lame_duck_seconds: float = Field(
        0.0,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="How long to keep accepting calls after SIGTERM while readiness is already "
        "false, so that load balancers can react; drain_seconds begin afterwards.",
    )
    poll_seconds: (
        Annotated[float, Field(ge=0.01, le=86_400, allow_inf_nan=False)] | Literal["never"]
    ) = Field(
        2.0,
        description="How often to check the repository for new versions; never checks only at "
        "startup and when a client loads a model.",
    )
    triton_metrics: bool = Field(
        False,
        description="Also export the metrics under Triton's names, for existing dashboards.",
    )
    triton_interface: TritonInterface = Field(
        "full",
        description="What Triton's clients see of a model: full, or image for a single input, the "
        "pixels, and a single output, the probabilities, as Triton's image_client wants.",
    )
    allow_repository_control: bool = Field(
        False, description="Allow clients to load and unload models and to set the log level."
    )

    @model_validator(mode="after")
    def _encrypted_and_authenticated(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: give both")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        exposed = exposure(self)
        if exposed and not self.insecure:
            raise ValueError(
                f"host {self.host}: {exposed}; give tls_certificate, tls_key and principals (or "
                "tls_client_ca), or insecure if a proxy or a mesh asks for them"
            )
        return self

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The names in `allowed_host`."""
        return tuple(name.strip() for name in self.allowed_host.split(",") if name.strip())

    @property
    def chosen_models(self) -> dict[str, int | None] | None:
        """The names in `models`, each with the only version to serve; None for every model."""
        return _read_models(self.models) or None

    @field_validator("models")
    @classmethod
    def _names_of_models(cls, models: str) -> str:
        _read_models(models)
        return models

    @field_validator("host")
    @classmethod
    def _one_address(cls, host: str) -> str:
        # A name would be resolved by each of the two servers in its own way.
        return "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")

    @field_validator("decode_budget_bytes")
    @classmethod
    def _large_enough_for_a_picture(cls, budget_bytes: int) -> int:
        if 0 < budget_bytes < LEAST_DECODE_BUDGET_BYTES:
            raise ValueError(f"use 0 to let convd decide, or at least {LEAST_DECODE_BUDGET_BYTES}")
        return budget_bytes

    @field_validator("max_connection_age_seconds")
    @classmethod
    def _long_enough_for_a_call(cls, age_seconds: float) -> float:
        if 0 < age_seconds < 1:
            raise ValueError("use 0 for no limit, or at least 1")
        return age_seconds

    @model_validator(mode="after")
    def _a_request_fits_the_queue(self) -> Self:
        if self.max_images_per_request > self.max_queue_size:
            raise ValueError(
                f"max_images_per_request ({self.max_images_per_request}) is greater than "
                f"max_queue_size ({self.max_queue_size}), so the largest requests would never fit "
                "the queue: raise max_queue_size or lower max_images_per_request"
            )
        return self


def exposure(settings: ServerSettings) -> str:
    """What callers from other machines can do that they should not; empty for nothing."""
    if is_loopback(settings.host):
        return ""
    problems = []
    if settings.tls_certificate is None:
        problems.append("calls and answers are not encrypted")
    if settings.principals is None and settings.tls_client_ca is None:
        problems.append("anyone who can connect may do everything")
    return ", and ".join(problems)


def _read_models(text: str) -> dict[str, int | None]:
    """Read the setting `models`.

    Raises:
        ValueError: A name or a version cannot be one.
    """
    chosen: dict[str, int | None] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, version = item.partition(":")
        try:
            check_model_name(name)
        except RepositoryError as error:
            raise ValueError(str(error)) from error
        if colon and not is_version_name(version):
            raise ValueError(f"write {name}:VERSION with a whole number, such as {name}:7")
        if name in chosen:
            raise ValueError(f"{name} is there twice")
        chosen[name] = int(version) if colon else None
    return chosen


def decode_budget(settings: ServerSettings) -> int:
    """The memory for all pictures being decoded and prepared, in bytes."""
    if settings.decode_budget_bytes:
        return settings.decode_budget_bytes
    limit_bytes = memory_limit_bytes()
    if limit_bytes is None:
        return GIBIBYTE
    return max(LEAST_DECODE_BUDGET_BYTES, min(GIBIBYTE, limit_bytes // 4))


def http_pages(settings: ServerSettings) -> str:
    """What the HTTP port has, in words."""
    return "console, metrics and health" if settings.console else "metrics and health"


def drain_limit_seconds(settings: ServerSettings) -> float:
    """The longest time between a signal and the end of the drain."""
    return settings.lame_duck_seconds + settings.drain_seconds
