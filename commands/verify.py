"""`convd verify`: check an artifact on this machine."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from convd.artifact.bundle import MODEL_FILE, Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.signature import SignatureRule
from convd.artifact.signed_repository import SignedRepository
from convd.artifact.signing_keys import read_verification_keys
from convd.commands import exit_codes
from convd.commands.published import published_version
from convd.runtime.provider import ExecutionProvider
from convd.runtime.providers import KNOWN_PROVIDERS
from convd.runtime.selftest import run_self_test
from convd.runtime.session import Session

_WIDTH = 200
_HEADINGS = ("check", "result", "detail")


@click.command()
@click.argument("artifact_dir", type=click.Path(path_type=Path))
@click.option(
    "--verify-with",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PUBLIC_KEY",
    help="Require signatures of version and config.yaml that this public key (PEM) verifies.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check.")
@click.pass_context
def command(
    context: click.Context, artifact_dir: Path, verify_with: Path | None, as_json: bool
) -> None:
    """Check an artifact's files, and run its golden cases on every execution provider here.

    Exits with 1 if the artifact must not be served on this machine, or not on every provider.

    \b
    Example:
      convd verify repository/digits/1
    """
    checks: list[tuple[str, str, str]] = []
    try:
        artifact = _open_signed(artifact_dir, verify_with) if verify_with else None
        if artifact is not None and artifact.signed is not None:
            until = f"{artifact.signed.about.expires_at:%Y-%m-%d}"
            checks.append(("signature", "ok", f"by {verify_with}, for this version, until {until}"))
            checks.append(("config.yaml", "ok", "as it was signed"))
        artifact = artifact or Artifact.open(artifact_dir)
        artifact.check_all_files()
        checks.append(("schema, checksums", "ok", f"{len(artifact.manifest.files)} files"))
        checks += [(str(one), *_run_golden_cases(artifact, one)) for one in KNOWN_PROVIDERS]
    except ArtifactError as error:
        checks.append(("artifact", "refused", str(error)))
    if as_json:
        for check in checks:
            click.echo(json.dumps(dict(zip(_HEADINGS, check, strict=True))))
    else:
        _show(checks)
    refused = any(result == "refused" for _, result, _ in checks)
    context.exit(exit_codes.FAILED if refused else exit_codes.DONE)


def _show(checks: Sequence[tuple[str, str, str]]) -> None:
    table = Table(box=None)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(*check)
    # A file or a pipe has no width to fit into.
    width = None if sys.stdout.isatty() else _WIDTH
    Console(highlight=False, markup=False, width=width).print(table)


def _open_signed(path: Path, key: Path) -> Artifact:
    """Open a version as a server does that requires signatures."""
    place = published_version(path)
    rule = SignatureRule(read_verification_keys(key))
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
