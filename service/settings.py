"""The server's settings, each with its bounds: what `convd serve` can be told."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from convd.runtime.choice import PROVIDER_CHOICES, PrecisionPolicy, ProviderChoice

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
TEBIBYTE = 1024 * GIBIBYTE
ENVIRONMENT_PREFIX = "CONVD_"

LogFormat = Literal["text", "json"]

# A value over such a bound is a slip of the keyboard: what it asks for would break much later, or
# without a word. A model's config.yaml has the same bounds.
BatchSize = Annotated[int, Field(ge=1, le=4096)]
QueueSize = Annotated[int, Field(ge=1, le=1_000_000)]
QueueDelaySeconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
ConcurrentExecutions = Annotated[int, Field(ge=0, le=256)]


class SettingsError(Exception):
    """A setting is unknown or has a value that it cannot have."""


class ServerSettings(BaseSettings):
    """Everything that `convd serve` can be told.

    The description of a field is its help text on the command line and in the documents.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    repository: Path = Field(description="Folder with the models to serve.")
    require_signature: Path | None = Field(
        None,
        description="Ed25519 public key (PEM); models that its owner has not signed never serve.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for every interface, :: for IPv6 too.",
    )
    grpc_port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    http_port: int = Field(
        8002,
        ge=0,
        le=65535,
        description="Port for metrics, health and the console; 0 takes a free one.",
    )
    console: bool = Field(True, description="Show the console in a browser at / of the HTTP port.")
    log_format: LogFormat = Field("text", description="Lines for people, or json for machines.")
    access_log_sample_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the calls that are logged; 0 logs none, 1 all.",
    )
    traces_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Where traces go, as OTLP over gRPC: http://HOST:4317, or https. Empty for "
        "where the OTEL_EXPORTER_OTLP_ENDPOINT variable says, or nowhere.",
    )
    provider: ProviderChoice = Field(
        "auto",
        description=f"Execution provider: {', '.join(PROVIDER_CHOICES[1:])}, or auto for the first "
        "of them that is installed, loads the model and gives its golden answers.",
    )
    precision_policy: PrecisionPolicy = Field(
        "fastest",
        description="exact computes a float32 network in float32 only; fastest allows less.",
    )
    intra_op_threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads that one inference may use; 0 takes every core, or one where the "
        "model is too small to gain from more.",
    )
    max_concurrent_executions: ConcurrentExecutions = Field(
        0,
        description="Batches of one model that may run at the same time; 0 takes 2 on a GPU, where "
        "one is copied while the other is computed; without one, 1 on all cores while requests are "
        "few, and one on each core while they are many and that is not slower.",
    )
    gpu_memory_limit_bytes: int = Field(
        0,
        ge=0,
        le=TEBIBYTE,
        description="Most memory that one model may take on a GPU; 0 for no limit.",
    )
    max_batch_size: BatchSize = Field(32, description="Most rows in one inference.")
    max_queue_size: QueueSize = Field(
        1024, description="Most rows that wait for one model; more are refused at once."
    )
    max_queue_delay_seconds: QueueDelaySeconds = Field(
        0.0, description="How long a lone request waits for company before it runs."
    )
    response_cache_bytes: int = Field(
        0,
        ge=0,
        le=TEBIBYTE,
        description="Memory for answers, so that a picture that comes again is not run again; 0 "
        "for none.",
    )
    max_images_per_request: int = Field(
        256, ge=1, le=65_536, description="Most images in one request; more are refused."
    )
    max_message_bytes: int = Field(
        64 * MEBIBYTE,
        ge=1024,
        le=2 * GIBIBYTE - 1,
        description="Largest gRPC message, received or sent.",
    )
    max_image_pixels: int = Field(
        64 * MEBIBYTE,
        ge=1,
        le=GIBIBYTE,
        description="Largest picture that is decoded, height x width.",
    )
    decode_budget_bytes: int = Field(
        GIBIBYTE,
        ge=16 * MEBIBYTE,
        le=TEBIBYTE,
        description="Memory for all pictures that are decoded and prepared at the same time, "
        "divided among the workers; who finds no room waits, or is refused with "
        "RESOURCE_EXHAUSTED.",
    )
    unary_threads: int = Field(
        64,
        ge=1,
        le=4096,
        description="Unary calls that are worked on, or wait for a batch, at the same time; twice "
        "max_batch_size keeps batches full and lets every call be refused at once.",
    )
    max_waiting_calls: int = Field(
        256,
        ge=1,
        le=65_536,
        description="Unary calls that may wait for a thread; more are refused at once.",
    )
    max_streams: int = Field(
        16, ge=1, le=4096, description="Streams that may be open at the same time."
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Server processes that share the gRPC port; each loads every model, and the "
        "cores are divided among them.",
    )
    max_connection_age_seconds: float = Field(
        0.0,
        ge=0,
        le=604_800,
        allow_inf_nan=False,
        description="How long a connection lasts before the client is asked to open another, so "
        "that load spreads over workers or replicas; 0 is for ever, or 30 with several workers.",
    )
    drain_seconds: float = Field(
        30.0,
        ge=0.1,
        le=3600,
        allow_inf_nan=False,
        description="Longest time that accepted calls may take after SIGTERM.",
    )
    poll_seconds: (
        Annotated[float, Field(ge=0.01, le=86_400, allow_inf_nan=False)] | Literal["never"]
    ) = Field(
        2.0,
        description="How often the repository is looked at for new versions; never looks at the "
        "start only, and when a client asks to load.",
    )
    triton_metrics: bool = Field(
        False, description="Show the metrics under Triton's names too, for dashboards made for it."
    )
    allow_repository_control: bool = Field(
        False, description="Let clients load and unload models and set the log level."
    )

    @field_validator("host")
    @classmethod
    def _without_the_brackets_of_a_url(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")

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
                f"max_images_per_request ({self.max_images_per_request}) is over max_queue_size "
                f"({self.max_queue_size}): such a request could never be accepted"
            )
        return self
