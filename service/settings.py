"""The server's settings: flags, then `CONVD_*` variables, then a YAML file, in one tree."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from convd.runtime.choice import PROVIDER_CHOICES, PrecisionPolicy, ProviderChoice

MEBIBYTE = 1024 * 1024
ENVIRONMENT_PREFIX = "CONVD_"

LogFormat = Literal["text", "json"]

_OTHER_VARIABLES = {"CONVD_CONFIG", "CONVD_SERVER"}
# Kubernetes sets such variables in every pod beside a Service named "convd".
_KUBERNETES_VARIABLE = re.compile(r"CONVD_(.*_)?(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_\w+)")


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
        0.0, ge=0, le=1, description="Share of the calls that are logged; 0 logs none, 1 all."
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
        description="Threads that one inference may use; 0 takes every core, or one where the "
        "model is too small to gain from more.",
    )
    max_concurrent_executions: int = Field(
        0,
        ge=0,
        description="Batches of one model that may run at the same time; 0 takes 2 on a GPU, where "
        "one is copied while the other is computed; without one, 1 on all cores while requests are "
        "few, and one on each core while they are many and that is not slower.",
    )
    gpu_memory_limit_bytes: int = Field(
        0, ge=0, description="Most memory that one model may take on a GPU; 0 for no limit."
    )
    max_batch_size: PositiveInt = Field(32, description="Most rows in one inference.")
    max_queue_size: PositiveInt = Field(
        1024, description="Most rows that wait for one model; more are refused at once."
    )
    max_queue_delay_seconds: NonNegativeFloat = Field(
        0.0, description="How long a lone request waits for company before it runs."
    )
    response_cache_bytes: int = Field(
        0,
        ge=0,
        description="Memory for answers, so that a picture that comes again is not run again; 0 "
        "for none.",
    )
    max_images_per_request: PositiveInt = Field(
        256, description="Most images in one request; more are refused."
    )
    max_message_bytes: PositiveInt = Field(
        64 * MEBIBYTE, description="Largest gRPC message, received or sent."
    )
    max_image_pixels: PositiveInt = Field(
        64 * MEBIBYTE, description="Largest picture that is decoded, height x width."
    )
    unary_threads: PositiveInt = Field(
        64,
        description="Unary calls that are worked on, or wait for a batch, at the same time; twice "
        "max_batch_size keeps batches full and lets every call be refused at once.",
    )
    max_waiting_calls: PositiveInt = Field(
        256, description="Unary calls that may wait for a thread; more are refused at once."
    )
    max_streams: PositiveInt = Field(16, description="Streams that may be open at the same time.")
    workers: PositiveInt = Field(
        1,
        description="Server processes that share the gRPC port; each loads every model, and the "
        "cores are divided among them.",
    )
    max_connection_age_seconds: NonNegativeFloat = Field(
        0.0,
        description="How long a connection lasts before the client is asked to open another, so "
        "that load spreads over workers or replicas; 0 is for ever, or 30 with several workers.",
    )
    drain_seconds: PositiveFloat = Field(
        30.0, description="Longest time that accepted calls may take after SIGTERM."
    )
    poll_seconds: PositiveFloat = Field(
        2.0, description="How often the repository is looked at for new versions."
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

    @model_validator(mode="after")
    def _a_request_fits_the_queue(self) -> Self:
        if self.max_images_per_request > self.max_queue_size:
            raise ValueError(
                f"max_images_per_request ({self.max_images_per_request}) is over max_queue_size "
                f"({self.max_queue_size}): such a request could never be accepted"
            )
        return self


def load_settings(flags: Mapping[str, Any], config: Path | None = None) -> ServerSettings:
    """Merge flags, environment and a YAML file, in this order of precedence.

    Args:
        flags: Settings given on the command line, by field name.
        config: A YAML file with settings by field name, or None.

    Raises:
        SettingsError: A key is unknown, or a value cannot be used; the text names it.
    """

    class Merged(ServerSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = YamlConfigSettingsSource(settings_cls, yaml_file=config)
            return init_settings, env_settings, file

    if config is not None and not config.is_file():
        raise SettingsError(f"the configuration file {config} does not exist")
    _check_environment(os.environ)
    try:
        return Merged(**flags)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from error


def _check_environment(environment: Mapping[str, str]) -> None:
    for variable in environment:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key not in ServerSettings.model_fields and not _KUBERNETES_VARIABLE.fullmatch(variable):
            raise SettingsError(f"{variable}: unknown setting{_nearest(key)}")


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown setting{_nearest(key)}"
    if problem["type"] == "missing":
        return f"{key}: required; give --{key.replace('_', '-')}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _nearest(key: str) -> str:
    nearest = difflib.get_close_matches(key, ServerSettings.model_fields, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
