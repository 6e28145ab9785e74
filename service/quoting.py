"""Quoting what a client sent: error texts travel in trailers, which are small."""

_MAX_CHARACTERS = 64


def quote(text: str) -> str:
    """Cut a client's text to 64 characters and replace control characters, for an error text."""
    cut = text[:_MAX_CHARACTERS]
    clean = "".join(character if character.isprintable() else "?" for character in cut)
    return f"{clean}..." if len(text) > _MAX_CHARACTERS else clean
