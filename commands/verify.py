"""`convd verify`: check an artifact on this machine."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.signature import SignatureRule
from convd.artifact.signed_repository import SignedRepository
from convd.artifact.signing_keys import read_verification_key
from convd.commands.published import published_version
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session

_WIDTH = 200


@click.command()
@click.argument("artifact_dir", type=click.Path(path_type=Path))
@click.option(
    "--verify-with",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PUBLIC_KEY",
    help="Require signatures of version and config.yaml that this public key (PEM) verifies.",
)
@click.pass_context
def command(context: click.Context, artifact_dir: Path, verify_with: Path | None) -> None:
    """Check an artifact's files, and run its golden cases on every execution provider here.

    Exits with 1 if the artifact must not be served on this machine, or not on every provider.

    \b
    Example:
      convd verify repository/digits/1
    """
    table = Table(box=None)
    for heading in ("check", "result", "detail"):
        table.add_column(heading, overflow="fold")
    sound = True
    try:
        artifact = _open_signed(artifact_dir, verify_with) if verify_with else None
        if artifact is not None:
            table.add_row("signature", "ok", f"by {verify_with}, for this model and version")
            table.add_row("config.yaml", "ok", "as it was signed")
        artifact = artifact or Artifact.open(artifact_dir)
        artifact.check_all_files()
        table.add_row("schema, checksums", "ok", f"{len(artifact.manifest.files)} files")
        for provider in KNOWN_PROVIDERS:
            result, detail = _run_golden_cases(artifact, provider)
            sound &= result != "refused"
            table.add_row(str(provider), result, detail)
    except ArtifactError as error:
        sound = False
        table.add_row("artifact", "refused", str(error))
    # A file or a pipe has no width to fit into.
    width = None if sys.stdout.isatty() else _WIDTH
    Console(highlight=False, markup=False, width=width).print(table)
    context.exit(0 if sound else 1)


def _open_signed(path: Path, key: Path) -> Artifact:
    """Open a version as a server does that requires signatures."""
    place = published_version(path)
    rule = SignatureRule(read_verification_key(key))
    repository = SignedRepository(place.repository, rule)
    repository.read_configuration(place.model)
    return repository.open_version(place.model, place.version)


def _run_golden_cases(artifact: Artifact, provider: ExecutionProvider) -> tuple[str, str]:
    """What a provider makes of the golden cases: a word, and the reason for it."""
    reason = provider.why_missing()
    if reason is not None:
        return "absent", reason
    computed = provider.computes_in(artifact.manifest.precision)
    tolerance = artifact.manifest.golden_tolerance(provider.name, computed)
    if tolerance is None:
        return "not promised", f"the artifact was not near enough in {computed} when it was made"
    try:
        model, precision = artifact.read(MODEL_FILE), artifact.manifest.precision
        difference = run_self_test(artifact, Session(model, provider, precision=precision))
    except ArtifactError as error:
        return "refused", str(error)
    return "ok", f"probabilities differ by {difference:.1e} of {tolerance:.0e} allowed"
