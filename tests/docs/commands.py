"""The commands that documents tell readers to type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

DOCUMENTS = tuple(
    ROOT / name
    for name in (
        "README.md",
        "docs/training.md",
        "docs/export.md",
        "docs/versions.md",
        "docs/operating.md",
        "docs/kubernetes.md",
        "docs/commands.md",
    )
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`(convd [^`]+)`(?!`)")
_ALL_PROSE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: `sh` for commands, `python` for a program.
        text: Its content.
        document: The document.
    """

    language: str
    text: str
    document: Path


def blocks(document: Path) -> Iterator[Block]:
    """The blocks of commands and programs, in the order of a document."""
    for language, text in _FENCE.findall(document.read_text(encoding="utf-8")):
        if language in ("sh", "python"):
            yield Block(language, text, document)


def commands(block: Block) -> Iterator[str]:
    """The commands of a block, without comments, with continued lines joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            # Quoted as it was typed, since the shell is to read it.
            yield re.sub(r"\s+", " ", re.sub(r"\s#\s.*$", "", line)).strip()


def spans(document: Path) -> Iterator[str]:
    """The `convd ...` in the prose and the tables of a document."""
    prose = _ALL_PROSE.sub("", document.read_text(encoding="utf-8"))
    yield from (re.sub(r"\s+", " ", span) for span in _SPAN.findall(prose))
