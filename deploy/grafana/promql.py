"""Just enough of PromQL to know which series and labels an expression refers to."""

import re
from collections.abc import Iterator

_STRINGS = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_LABEL = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"\b(?:convd|envoy|process|python|model_version)[a-zA-Z0-9_:]*\b|\bup\b")


def series(expression: str) -> set[str]:
    """Names of all series."""
    plain = _GROUPING.sub("", _STRINGS.sub('""', expression))
    return set(_NAME.findall(re.sub(r"\{[^}]*\}", "", plain)))


def selected_labels(expression: str) -> Iterator[tuple[str, str]]:
    """Each series with each label that it is selected by."""
    for name, selector in _SELECTOR.findall(_STRINGS.sub('""', expression)):
        for label in _LABEL.findall(selector):
            yield name, label


def grouped_labels(expression: str) -> set[str]:
    """Labels that the expression groups or joins by."""
    groups = _GROUPING.findall(expression)
    return {label.strip() for group in groups for label in group.split(",") if label.strip()}
