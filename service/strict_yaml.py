"""YAML as people write it into a configuration: one mapping, every key once, no tags.

YAML's own loaders keep the last of two equal keys, and build objects for tags.
"""

import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 64 * 1024
"""Largest file that is read: PyYAML takes ten seconds for a mebibyte, minutes for a number."""


class StrictYamlError(Exception):
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
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StrictYamlError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise StrictYamlError(f"it has {status.st_size} bytes, over the limit of {MAX_FILE_BYTES}")
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
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
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        what = "" if isinstance(error, yaml.constructor.ConstructorError) else "not valid YAML: "
        problem = _first_line(error.problem or error.context)
        raise StrictYamlError(f"{where}{what}{problem}") from error
    # The reader's own, for characters that YAML does not allow; they have no line.
    except yaml.YAMLError as error:
        raise StrictYamlError(f"not valid YAML: {_first_line(str(error))}") from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise StrictYamlError(f"not valid YAML: {type(error).__name__}") from error
    return mapping


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
            raise yaml.constructor.ConstructorError(problem=refused, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be text", problem_mark=key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key!r} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0][:200]
