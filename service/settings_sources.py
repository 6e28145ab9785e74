"""Where settings come from: flags, then `CONVD_*` variables, then a YAML file, in one tree."""

import difflib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from convd.service.quoting import quote
from convd.service.settings import ENVIRONMENT_PREFIX, ServerSettings, SettingsError
from convd.service.strict_yaml import StrictYamlError, YamlMapping, read_yaml_file

logger = logging.getLogger(__name__)

# Of the command line and of clients, which are no settings of a server.
_OTHER_VARIABLES = re.compile(r"CONVD_(CONFIG|SERVER|TOKEN|CLIENT_.*)")
# Kubernetes sets such variables in every pod for a Service named "convd" or "convd-...".
_KUBERNETES_VARIABLE = re.compile(r"CONVD_(.*_)?(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_\w+)")
_KUBERNETES_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")


def load_settings(
    flags: Mapping[str, Any],
    config: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ServerSettings:
    """Merge flags, environment and a YAML file, in this order of precedence.

    Args:
        flags: Settings given on the command line, by field name.
        config: A YAML file with settings by field name, or None.
        environment: The variables.

    Raises:
        SettingsError: A key is unknown, or a value cannot be used; the text names it, and the flag,
            variable or line that it came from.
    """
    variables = _own_variables(environment)
    values = _read_file(config) if config is not None else YamlMapping()

    class Merged(ServerSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            others = (variables, values)
            return init_settings, *(InitSettingsSource(settings_cls, dict(one)) for one in others)

    try:
        return Merged(**flags)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        texts = [_explain(problem, flags, variables, values, config) for problem in problems]
    # A value of two kinds, such as a number or "never", has a problem for each kind.
    raise SettingsError("; ".join(dict.fromkeys(texts)))


def _read_file(config: Path) -> YamlMapping:
    try:
        return read_yaml_file(config)
    except FileNotFoundError:
        reason = "it does not exist"
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except StrictYamlError as error:
        reason = str(error)
    raise SettingsError(f"the configuration file {config}: {reason}")


def _own_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that variables give, by field name.

    Raises:
        SettingsError: A variable names no setting.
    """
    given: dict[str, str] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or _OTHER_VARIABLES.fullmatch(variable):
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if _KUBERNETES_VALUE.fullmatch(value) and key.endswith("_port"):
            if key in ServerSettings.model_fields:
                logger.warning(
                    "%s=%s comes from Kubernetes, for a Service of that name, and is ignored; "
                    "'enableServiceLinks: false' in the pod ends it",
                    variable,
                    quote(value),
                )
        elif key in ServerSettings.model_fields:
            given[key] = value
        elif not _KUBERNETES_VARIABLE.fullmatch(variable):
            raise SettingsError(f"{variable}: unknown setting{_nearest(key)}")
    return given


def _explain(
    problem: Any,  # noqa: ANN401
    flags: Mapping[str, Any],
    variables: Mapping[str, str],
    values: YamlMapping,
    config: Path | None,
) -> str:
    def source_of(key: str) -> str:
        if key in flags:
            return _flag(key)
        if key in variables:
            return f"the variable {ENVIRONMENT_PREFIX}{key.upper()}"
        if key in values:
            return f"{key} ({config}, line {values.lines.get(key, 1)})"
        return ""

    key = str(problem["loc"][0]) if problem["loc"] else ""
    source = source_of(key)
    if problem["type"] == "extra_forbidden":
        return f"{source}: unknown setting{_nearest(key)}"
    if problem["type"] == "missing":
        return f"{key}: required; give {_flag(key)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not key:
        # Of settings that do not go together, each that was given and is named.
        named = dict.fromkeys(re.findall(r"\w+", message))
        sources = [source_of(name) for name in named if source_of(name)]
        return f"{message} [{'; '.join(sources)}]" if sources else message
    if not source:
        return f"{key}: {message}"
    given = flags.get(key, variables.get(key, values.get(key)))
    return f"{source}: {quote(str(given))} cannot be used: {_what_is_allowed(key) or message}"


def _what_is_allowed(key: str) -> str:
    """What a setting may be where a value of several kinds would need several sentences."""
    if key == "poll_seconds":
        return "give seconds from 0.01 to 86400, or never"
    return ""


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _nearest(key: str) -> str:
    nearest = difflib.get_close_matches(key, ServerSettings.model_fields, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
