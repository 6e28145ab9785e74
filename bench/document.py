"""Result tables, as they are committed."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_document(path: Path, title: str, machine: str, *paragraphs: str) -> None:
    """Write a document of results, and print it."""
    text = "\n\n".join([f"# {title}", f"Measured on: {machine}", *paragraphs]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")
