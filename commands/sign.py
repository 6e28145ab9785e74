"""`convd sign`: sign versions that are published already."""

import json
import os
from pathlib import Path

import click

from convd.artifact.errors import ArtifactError, RepositoryError
from convd.artifact.repository import ModelRepository
from convd.artifact.signature import VALID_DAYS, Signer
from convd.artifact.signing_keys import read_signing_key
from convd.commands.published import PublishedVersion, holds_version, published_version

valid_days_option = click.option(
    "--valid-days",
    type=click.IntRange(1, 3650),
    default=VALID_DAYS,
    show_default=True,
    help="How long the signature counts; sign again before it expires.",
)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PRIVATE_KEY",
    help="The private key (PEM, P-256 or Ed25519).",
)
@valid_days_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per version.")
def command(paths: tuple[Path, ...], key: Path, valid_days: int, as_json: bool) -> None:
    """Sign versions as what they are now: model, number, files, and the model's config.yaml.

    Each PATH is the folder of a version, or of a model for all its versions. Read config.yaml
    before you sign, and sign the model again whenever you have changed it.

    \b
    Examples:
      convd sign repository/digits --key key.pem
      convd sign repository/digits/3 --key key.pem --valid-days 90
    """
    try:
        signer = Signer(read_signing_key(key), valid_days)
        for path in paths:
            for one in _versions(path):
                _sign(one, signer)
                if as_json:
                    signed = {"model": one.model, "version": one.version}
                    click.echo(json.dumps(signed | {"valid_days": valid_days}))
                else:
                    click.echo(f"signed {one.model} version {one.version}, for {valid_days} days")
    except ArtifactError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot write to {path}: {error.strerror}") from error


def _versions(path: Path) -> list[PublishedVersion]:
    if holds_version(path):
        return [published_version(path)]
    model = Path(os.path.abspath(path))  # noqa: PTH100
    versions = ModelRepository(model.parent).versions(model.name)
    if not versions:
        raise RepositoryError(
            f"{path} holds no version: give REPOSITORY/NAME, or REPOSITORY/NAME/VERSION"
        )
    return [PublishedVersion(model.parent, model.name, version) for version in versions]


def _sign(one: PublishedVersion, signer: Signer) -> None:
    repository = ModelRepository(one.repository)
    artifact = repository.open_version(one.model, one.version)
    configuration = repository.read_configuration(one.model)
    signer.sign(artifact.folder.path, one.model, one.version, artifact.files(), configuration)
