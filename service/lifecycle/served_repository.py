"""The repository that a server reads, and the copy that it reads in place of object storage."""

import hashlib
from functools import partial
from pathlib import Path

from convd.artifact.mirror import Mirror
from convd.artifact.object_storage import ObjectStorage, check_installed
from convd.artifact.repository import ModelRepository
from convd.artifact.signature import SignatureRule
from convd.artifact.signed_repository import SignedRepository
from convd.artifact.signing_keys import read_verification_keys
from convd.service.settings import ServerSettings


def open_mirror(settings: ServerSettings) -> Mirror | None:
    """The copy of a repository in object storage; None where the repository is a folder.

    Raises:
        StorageError: A package is missing.
        RepositoryError: The folder for the copy cannot be written.
    """
    url = settings.repository
    if isinstance(url, Path):
        return None
    check_installed(url)
    poll = settings.poll_seconds
    return Mirror(
        partial(ObjectStorage, url),
        url,
        settings.repository_cache.expanduser() / hashlib.sha256(url.encode()).hexdigest()[:16],
        # The workers look in turn; each server alone would look as often as this.
        fresh_seconds=0.0 if poll == "never" else poll / 2,
    )


def open_repository(settings: ServerSettings, mirror: Mirror | None = None) -> ModelRepository:
    """Open the repository that is served.

    Args:
        settings: The server's settings.
        mirror: The copy to read, from `open_mirror`.

    Raises:
        RepositoryError: It does not exist, is a part of one, or cannot be read.
        SigningKeyError: The public key for signatures cannot be read.
    """
    root = mirror.root if mirror is not None else Path(settings.repository)
    repository = ModelRepository(root, settings.chosen_models)
    if settings.require_signature is not None:
        keys = read_verification_keys(settings.require_signature)
        rule = SignatureRule(keys, settings.signed_since)
        repository = SignedRepository(root, rule, settings.chosen_models)
    repository.check_whole()
    return repository
