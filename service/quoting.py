"""Quotes a client's text in an error text, which travels in a trailer of limited size."""

_MAX_CHARACTERS = 64


def quote(text: str) -> str:
    """Cut a text to 64 characters, and replace control characters by question marks."""
    cut = text[:_MAX_CHARACTERS]
    clean = "".join(character if character.isprintable() else "?" for character in cut)
    return f"{clean}..." if len(text) > _MAX_CHARACTERS else clean
