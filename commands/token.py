"""`convd token`: who may do what on a server, by token or by client certificate."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from pydantic import ValidationError

from convd.service.access.principal import Limits
from convd.service.access.principals_file import (
    PrincipalEntry,
    PrincipalsFile,
    PrincipalsFileError,
    TokenEntry,
    change_principals,
    new_token,
    read_principals,
    token_entry,
)
from convd.service.access.scopes import EVERYTHING, GRANTS

_file_option = click.option(
    "--principals",
    "file",
    envvar="CONVD_PRINCIPALS",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that convd serve --principals reads.",
)


@click.group()
def command() -> None:
    """Create, list and revoke tokens.

    A server started with --principals FILE does for a caller only what FILE allows the principal of
    its token or client certificate. The file holds hashes, never tokens. A running server follows
    it within about a second.
    """


@command.command()
@click.argument("name")
@_file_option
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help=f"What it may do, repeatable: {', '.join(GRANTS)}. MODEL may be *.",
)
@click.option("--all-scopes", is_flag=True, help="It may do everything.")
@click.option(
    "--expires-days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires."
)
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="NAME",
    help="Subject (RFC 4514) or SPIFFE id of a client certificate that it uses instead of a token, "
    "repeatable.",
)
@click.option("--requests-per-second", type=float, help="Limit of its requests per second.")
@click.option("--pixels-per-second", type=float, help="Limit of the pixels decoded per second.")
@click.option("--concurrent-calls", type=int, help="Limit of its calls in progress.")
@click.option("--request-bytes", type=int, help="Limit of the size of one request.")
def create(
    name: str,
    file: Path,
    scopes: tuple[str, ...],
    all_scopes: bool,
    expires_days: float | None,
    certificates: tuple[str, ...],
    **limits: float | None,
) -> None:
    """Make a token for NAME, and print it: the only time that it can be seen.

    If NAME exists, it gets another token, and keeps the scopes and limits that are not given.
    Replace a token so: create the new one, hand it out, then revoke the old one by its id.

    \b
    Example:
      convd token create camera-7 --scope infer:digits --principals principals.json
    """
    token = None if certificates else new_token()
    created = datetime.now(UTC).replace(microsecond=0)
    expires = created + timedelta(days=expires_days) if expires_days is not None else None

    def change(before: PrincipalsFile) -> PrincipalsFile:
        known = before.entry(name)
        granted = EVERYTHING if all_scopes else scopes
        if known is None and not granted:
            raise click.UsageError("say what it may do: --scope SCOPE, or --all-scopes")
        entry = known or PrincipalEntry(name=name)
        made = () if token is None else (token_entry(token, created, expires),)
        given = {limit: value for limit, value in limits.items() if value is not None}
        return before.with_entry(
            PrincipalEntry(
                name=name,
                scopes=tuple(granted) or entry.scopes,
                tokens=entry.tokens + made,
                certificates=tuple(dict.fromkeys(entry.certificates + certificates)),
                limits=Limits.model_validate(entry.limits.model_dump() | given),
            )
        )

    _change(file, change)
    if token is None:
        click.echo(f"{name} may use the client certificates {', '.join(certificates)}", err=True)
        return
    click.echo(f"the token of {name}, which is not shown again:", err=True)
    click.echo(token)


@command.command("list")
@_file_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per principal.")
def list_(file: Path, as_json: bool) -> None:
    """List the principals, with the ids of their tokens.

    \b
    Example:
      convd token list --principals principals.json
    """
    try:
        content = read_principals(file)
    except PrincipalsFileError as error:
        raise click.ClickException(str(error)) from error
    for entry in content.principals:
        if as_json:
            click.echo(json.dumps(_without_hashes(entry)))
            continue
        limits = entry.limits.model_dump(exclude_none=True)
        click.echo(entry.name)
        _list("scopes", [" ".join(entry.scopes)])
        _list("token", map(_describe, entry.tokens))
        _list("certificate", entry.certificates)
        _list("limit", (f"{value:g} {name.replace('_', ' ')}" for name, value in limits.items()))


@command.command()
@click.argument("name")
@_file_option
@click.option("--token", "token_id", help="Only the token of this id (see convd token list).")
def revoke(name: str, file: Path, token_id: str | None) -> None:
    """Remove NAME with all its tokens and certificates, or one of its tokens.

    \b
    Example:
      convd token revoke camera-7 --principals principals.json
    """

    def change(before: PrincipalsFile) -> PrincipalsFile:
        entry = before.entry(name)
        if entry is None:
            raise click.ClickException(f"{file} has no principal {name}")
        if token_id is None:
            return before.without(name)
        left = tuple(token for token in entry.tokens if token.id != token_id)
        if len(left) == len(entry.tokens):
            raise click.ClickException(f"{name} has no token {token_id}: see 'convd token list'")
        return before.with_entry(entry.model_copy(update={"tokens": left}))

    _change(file, change)
    click.echo(f"revoked {f'token {token_id} of ' if token_id else ''}{name}", err=True)


def _list(what: str, values: Iterable[str]) -> None:
    for value in values:
        click.echo(f"  {what:12} {value}")


def _without_hashes(entry: PrincipalEntry) -> dict[str, object]:
    shown: dict[str, object] = entry.model_dump(mode="json")
    shown["tokens"] = [
        {"id": token.id} | token.model_dump(mode="json", exclude={"sha256"})
        for token in entry.tokens
    ]
    return shown


def _describe(token: TokenEntry) -> str:
    text = f"{token.id} made {token.created:%Y-%m-%d}"
    if token.expires is None:
        return text
    ends = "expired" if token.expires <= datetime.now(UTC) else "expires"
    return f"{text}, {ends} {token.expires:%Y-%m-%d %H:%M} UTC"


def _change(file: Path, change: Callable[[PrincipalsFile], PrincipalsFile]) -> None:
    try:
        change_principals(file, change)
    except PrincipalsFileError as error:
        raise click.ClickException(str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise click.ClickException(
            f"{first['loc'][0] if first['loc'] else file}: {message}"
        ) from error
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}") from error
