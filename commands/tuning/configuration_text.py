"""Changes settings in the text of a `config.yaml` and leaves everything else as it was written."""

from collections.abc import Mapping
from typing import Any

import yaml

from convd.commands.tuning.engine_choice import KEYS, EngineChoice
from convd.service.lifecycle.configuration import (
    ConfigurationError,
    ModelConfiguration,
    parse_configuration,
)

_NOTE = "chosen by convd tune"


class UnchangeableError(Exception):
    """The text cannot be changed without touching what else is written there."""


def lines_of(choice: EngineChoice) -> str:
    """A choice as lines of a `config.yaml`."""
    return "".join(f"{key}: {value}\n" for key, value in choice.changes().items())


def with_choice(text: str, choice: EngineChoice) -> str:
    """The text of a `config.yaml` with another choice in it.

    Values are replaced where they stand, comments and order stay, and new settings come at the end.
    A setting that goes back to the default becomes a comment.

    Args:
        text: A valid configuration; empty for none.
        choice: What it is to choose.

    Raises:
        UnchangeableError: It is written in a way in which this is not possible.
    """
    wanted = choice.changes()
    document = yaml.compose(text, yaml.SafeLoader)
    written = document.value if isinstance(document, yaml.MappingNode) else []
    changed = text
    # From the end, so that the places before it stay where they are.
    for key, value in reversed(written):
        if key.value in wanted:
            replacement = str(wanted.pop(key.value))
            changed = (
                changed[: value.start_mark.index] + replacement + changed[value.end_mark.index :]
            )
        elif key.value in KEYS:
            changed = f"{changed[: key.start_mark.index]}# {changed[key.start_mark.index :]}"
    if wanted:
        if changed and not changed.endswith("\n"):
            changed += "\n"
        indent = " " * (written[0][0].start_mark.column if written else 0)
        lines = [f"# {_NOTE}", *(f"{key}: {value}" for key, value in wanted.items())]
        changed += "".join(f"{indent}{line}\n" for line in lines)
    if not _says(changed, _expected(text, choice)):
        raise UnchangeableError(
            "config.yaml is not written as one setting per line, so it was left as it is; write "
            f"these lines into it yourself:\n{lines_of(choice)}"
        )
    return changed


def _expected(text: str, choice: EngineChoice) -> Mapping[str, Any]:
    before = parse_configuration(text.encode()).model_dump(exclude=set(KEYS))
    return before | dict.fromkeys(KEYS) | choice.changes()


def _says(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        found: ModelConfiguration = parse_configuration(text.encode())
    except ConfigurationError:
        return False
    return found.model_dump() == expected
