"""Files of principals, with a token for each of them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convd.service.access.principals_file import new_token, token_entry


def write_principals(
    path: Path, scopes: Mapping[str, Sequence[str]], **more: Mapping[str, Any]
) -> dict[str, str]:
    """Write a file of principals.

    Args:
        path: The file.
        scopes: The grants of each principal.
        **more: More keys of each principal, such as limits.

    Returns:
        The token of each principal.
    """
    tokens = {name: new_token() for name in scopes}
    now = datetime.now(UTC)
    entries = [
        {
            "name": name,
            "scopes": list(granted),
            "tokens": [token_entry(tokens[name], now, None).model_dump(mode="json")],
            **more.get(name, {}),
        }
        for name, granted in scopes.items()
    ]
    staging = path.with_suffix(".staging")
    staging.write_text(json.dumps({"principals": entries}))
    staging.rename(path)
    return tokens


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a token."""
    return (("authorization", f"Bearer {token}"),)
