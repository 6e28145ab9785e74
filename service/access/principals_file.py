"""The file of principals: hashes of their tokens, their certificates, scopes and limits.

It is JSON, because half of a JSON document is never a document: a file that is being written is not
mistaken for one with fewer principals.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from convd.artifact.staging import locked, replacing
from convd.service.access.principal import RESERVED_NAMES, Limits
from convd.service.access.scopes import Grants

TOKEN_PREFIX = "convd_"  # noqa: S105
"""Begins every token, so that scanners for leaked secrets can know one."""

_TOKEN_BYTES = 32
_MAX_FILE_BYTES = 16 * 1024 * 1024


class PrincipalsFileError(Exception):
    """The file cannot be used; the text says why."""


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class TokenEntry(BaseModel):
    """One token of a principal.

    Attributes:
        sha256: Hash of the token in hexadecimal digits. The token has 256 random bits, so that no
            slower hash is needed: there is no list of likely tokens to try.
        created: When it was made.
        expires: When it ends to be valid; None for never.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @property
    def id(self) -> str:
        """What names the token to people: the first digits of its hash."""
        return token_id(bytes.fromhex(self.sha256))


class PrincipalEntry(BaseModel):
    """One principal.

    Attributes:
        name: Its name.
        scopes: What it may do.
        tokens: Its tokens; two at a time while one replaces the other.
        certificates: Client certificates that it may use: a subject as in RFC 4514, such as
            `CN=camera-7,O=Example`, or a URI such as a SPIFFE id.
        limits: How much it may use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    scopes: tuple[str, ...] = ()
    tokens: tuple[TokenEntry, ...] = ()
    certificates: tuple[Annotated[str, Field(min_length=1, max_length=2048)], ...] = ()
    limits: Limits = Limits()

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"{name} is what the server calls those that have no name")
        return name

    @field_validator("scopes")
    @classmethod
    def _known(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        Grants.parse(scopes)
        return scopes


class PrincipalsFile(BaseModel):
    """The whole file.

    Attributes:
        principals: Every principal, each with a name of its own, and no token or certificate of
            another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    principals: tuple[PrincipalEntry, ...] = ()

    @field_validator("principals")
    @classmethod
    def _apart(cls, principals: tuple[PrincipalEntry, ...]) -> tuple[PrincipalEntry, ...]:
        _check_unique("name", (one.name for one in principals))
        _check_unique("token", (token.id for one in principals for token in one.tokens))
        _check_unique("certificate", (name for one in principals for name in one.certificates))
        return principals

    def entry(self, name: str) -> PrincipalEntry | None:
        """The principal of a name, or None."""
        return next((one for one in self.principals if one.name == name), None)

    def with_entry(self, entry: PrincipalEntry) -> "PrincipalsFile":
        """The same file with one principal added, or in the place of the one of its name."""
        others = [one for one in self.principals if one.name != entry.name]
        return PrincipalsFile(principals=(*others, entry))

    def without(self, name: str) -> "PrincipalsFile":
        """The same file without one principal."""
        return PrincipalsFile(principals=tuple(p for p in self.principals if p.name != name))


def read_principals(path: Path) -> PrincipalsFile:
    """Read the file.

    Raises:
        PrincipalsFileError: It cannot be read or is not as described here; the text says why.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PrincipalsFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise PrincipalsFileError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    try:
        principals = PrincipalsFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = str(first["msg"]).removeprefix("Value error, ")
        raise PrincipalsFileError(f"{path}: {where + ': ' if where else ''}{what}") from error
    try:
        json.loads(content, object_pairs_hook=_check_keys)
    except ValueError as error:
        raise PrincipalsFileError(f"{path}: {error}") from error
    return principals


def _check_keys(pairs: list[tuple[str, object]]) -> None:
    """Of a key that is there twice, parsers take the last value, and people read the first."""
    _check_unique("key", (key for key, _ in pairs))


def change_principals(path: Path, change: Callable[[PrincipalsFile], PrincipalsFile]) -> None:
    """Change the file, which is made if there is none; two changes at a time follow each other.

    Raises:
        PrincipalsFileError: It cannot be read.
        OSError: It cannot be written.
    """
    # Behind a symbolic link lies the file that is meant.
    path = path.resolve()
    with locked(path.parent):
        before = read_principals(path) if path.exists() else PrincipalsFile()
        _write(path, change(before))


def _write(path: Path, content: PrincipalsFile) -> None:
    """Replace the file in one step, so that a reader finds the old one or the new one."""
    with replacing(path, 0o600) as file:
        file.write((content.model_dump_json(indent=2, exclude_defaults=True) + "\n").encode())
        if path.exists():
            status = path.stat()
            os.fchmod(file.fileno(), status.st_mode & 0o777)
            # Only root can give a file away; others own the old one already.
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)


def new_token() -> str:
    """Make a token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def token_entry(token: str, created: datetime, expires: datetime | None) -> TokenEntry:
    """The entry of a token: its hash, never the token."""
    return TokenEntry(sha256=token_hash(token).hex(), created=created, expires=expires)


def token_hash(token: str) -> bytes:
    """Hash a token as the file holds it."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def token_id(hashed: bytes) -> str:
    """What names a token to people: the first digits of its hash."""
    return hashed[:4].hex()


def _check_unique(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the {what} {value[:64]} is there twice")
        seen.add(value)
