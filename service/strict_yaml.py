"""YAML as people write it into a configuration: one mapping, every key once, no tags.

YAML's own loaders keep the last of two equal keys, and build objects for tags.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from convd.artifact.contained import ContainedFolder
from convd.artifact.errors import ExplainedError, OutsideError
from convd.artifact.repository import MAX_CONFIGURATION_BYTES


class StrictYamlError(ExplainedError):
    """A file is not a mapping that can be used; the text says what to change, and on which line."""


class YamlMapping(dict[str, Any]):
    """The values of a file by key.

    Attributes:
        lines: The line of each key, counted from 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def read_yaml_file(path: Path) -> YamlMapping:
    """Read a file.

    Raises:
        StrictYamlError: It is not a regular file, too large, or for the reasons of `read_yaml`.
        OSError: It cannot be read.
    """
    # The user of the command line may read what the command can, wherever a link leads.
    real = path.resolve(strict=True)
    try:
        return decode_yaml(ContainedFolder.of(real.parent).read(real.name, MAX_CONFIGURATION_BYTES))
    except OutsideError as error:
        raise StrictYamlError(error.public) from error


def decode_yaml(data: bytes) -> YamlMapping:
    """Read the bytes of a configuration.

    Raises:
        StrictYamlError: It is not text in UTF-8, or for the reasons of `read_yaml`.
    """
    try:
        return read_yaml(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StrictYamlError("it is not text in UTF-8") from error


def read_yaml(text: str) -> YamlMapping:
    """Read the text of a configuration; an empty one is an empty mapping.

    Raises:
        StrictYamlError: It is not YAML, not a mapping, or has a key twice.
    """
    mapping = YamlMapping()
    try:
        node = yaml.compose(text, _StrictLoader)
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return mapping
        if not isinstance(node, yaml.MappingNode):
            raise StrictYamlError("it must be a mapping, with lines such as 'key: value'")
        loader = _StrictLoader("")
        try:
            for key, value in loader.construct_document(node).items():
                mapping[str(key)] = value
            for key_node, _ in node.value:
                mapping.lines[str(loader.construct_object(key_node))] = key_node.start_mark.line + 1
        finally:
            loader.dispose()
    except _RefusedError as error:
        raise StrictYamlError(f"line {error.line}: {error.public}", detail=error.detail) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        problem = _first_line(error.problem or error.context)
        raise StrictYamlError(f"not valid YAML{where}", detail=problem) from error
    # The reader's own, for characters that YAML does not allow; they have no line.
    except yaml.YAMLError as error:
        raise StrictYamlError("not valid YAML", detail=_first_line(error)) from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise StrictYamlError(f"not valid YAML: {type(error).__name__}") from error
    return mapping


class _RefusedError(Exception):
    """YAML that is valid and yet not read.

    Args:
        node: What is refused, or the event that begins it.
        public: The reason.
        detail: What it is about, for the log.
    """

    def __init__(self, node: yaml.Node | yaml.Event, public: str, detail: str = "") -> None:
        super().__init__(public)
        self.line = node.start_mark.line + 1 if node.start_mark else 1
        self.public = public
        self.detail = detail


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, tags, and aliases, by which ten lines become gigabytes.

    A tag makes PyYAML build what the text does not look like, and raise anything where it cannot.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        refused = None
        if isinstance(event, yaml.AliasEvent):
            refused = "aliases are not read: write the value again"
        elif getattr(event, "tag", None) is not None:
            refused = "tags such as !!str are not read: write the plain value"
        if refused:
            raise _RefusedError(event, refused)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _RefusedError(key_node, "a key must be text")
            if key in seen:
                raise _RefusedError(key_node, "a key is there twice", repr(key))
            seen.add(key)
        return super().construct_mapping(node, deep)


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0][:200]
