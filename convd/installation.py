"""What to type where a package is missing."""


def install_command(extra: str) -> str:
    """The command that adds an extra, typed in a clone of convd.

    Args:
        extra: A name under `optional-dependencies` in pyproject.toml.
    """
    return f"pip install --constraint constraints.txt --editable '.[{extra}]' in a clone of convd"
