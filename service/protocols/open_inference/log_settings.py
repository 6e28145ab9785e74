"""The logging extension: maps the server's log level to the protocol's switches."""

import logging
from collections.abc import Mapping

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.quoting import quote

_SWITCHES = {
    "log_errors": logging.ERROR,
    "log_warnings": logging.WARNING,
    "log_info": logging.INFO,
}
_VERBOSE = "log_verbose_level"

Settings = Mapping[str, pb.LogSettingsRequest.SettingValue]


def current() -> dict[str, pb.LogSettingsResponse.SettingValue]:
    """The settings by name."""
    value = pb.LogSettingsResponse.SettingValue
    level = logging.getLogger().getEffectiveLevel()
    switches = {name: value(bool_param=level <= own) for name, own in _SWITCHES.items()}
    return switches | {
        _VERBOSE: value(uint32_param=int(level <= logging.DEBUG)),
        "log_file": value(string_param=""),
        "log_format": value(string_param="default"),
    }


def change(settings: Settings) -> None:
    """Set the log level that the switches ask for.

    Python's levels are ordered: switching a level off also switches off those below it, and
    switching one on also switches on those above it.

    Raises:
        InvalidRequestError: A setting is unknown, has the wrong type, cannot be changed, or
            contradicts another; nothing is changed.
    """
    switched = {name: _switched_on(name, value) for name, value in settings.items()}
    levels = _SWITCHES | {_VERBOSE: logging.DEBUG}
    off = [levels[name] for name, is_on in switched.items() if not is_on]
    on = [levels[name] for name, is_on in switched.items() if is_on]
    if off and on and min(on) <= max(off):
        raise InvalidRequestError(
            "the log settings contradict each other: a level can only be on if all levels above it "
            "are on"
        )
    level = logging.getLogger().getEffectiveLevel()
    if on:
        level = min(level, *on)
    if off:
        level = max(level, max(off) + 10)
    logging.getLogger().setLevel(level)


def _switched_on(name: str, value: pb.LogSettingsRequest.SettingValue) -> bool:
    kind = value.WhichOneof("parameter_choice")
    if name in _SWITCHES:
        if kind != "bool_param":
            raise InvalidRequestError(f"log setting '{name}' must be set as bool_param")
        return value.bool_param
    if name == _VERBOSE:
        if kind != "uint32_param":
            raise InvalidRequestError(f"log setting '{name}' must be set as uint32_param")
        return value.uint32_param > 0
    raise InvalidRequestError(
        f"log setting '{quote(name)}' cannot be changed; you can change "
        f"{', '.join(_SWITCHES)} and {_VERBOSE}"
    )
