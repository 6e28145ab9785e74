"""Result tables, as they are committed."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def memory_table(what: str, memory: Iterable[tuple[int, int]]) -> str:
    """A table of resident bytes by how many of something a server had by then."""
    rows = [(count, f"{resident_bytes / 2**20:.1f}") for count, resident_bytes in memory]
    return table([what, "Resident MiB"], rows)


def statuses(codes: Mapping[str, int]) -> str:
    """How many calls ended with each status, in words."""
    return ", ".join(f"{count} {code}" for code, count in codes.items())


def write_document(path: Path, title: str, machine: str, *paragraphs: str) -> None:
    """Write a document of results, and print it."""
    text = "\n\n".join([f"# {title}", f"Measured on: {machine}", *paragraphs]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")
