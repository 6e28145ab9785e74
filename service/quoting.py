"""Quotes a client's text in an error text, which travels in a trailer of limited size."""

_MAX_CHARACTERS = 64


def quote(text: str) -> str:
    """Cut a text to 64 characters, and replace control characters by question marks."""
    clean = one_line(text[:_MAX_CHARACTERS])
    return f"{clean}..." if len(text) > _MAX_CHARACTERS else clean


def one_line(text: str) -> str:
    """Replace line ends, other control characters and what is not text by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)
