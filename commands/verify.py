"""`convd verify`: does an artifact keep its promise on this machine?"""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from artifact.bundle import MODEL_FILE, Artifact
from artifact.errors import ArtifactError
from runtime.providers import KNOWN_PROVIDERS, why_missing
from runtime.selftest import run_self_test
from runtime.session import Session


@click.command()
@click.argument("artifact_dir", type=click.Path(path_type=Path))
@click.pass_context
def command(context: click.Context, artifact_dir: Path) -> None:
    """Check an artifact and run its golden cases on every execution provider of this machine.

    Exits with 1 if it must not be served here, or only on some of the providers.

    \b
    Example:
      convd verify repository/digits/1
    """
    table = Table(box=None)
    for heading in ("check", "result", "detail"):
        table.add_column(heading)
    sound = True
    try:
        artifact = Artifact.open(artifact_dir)
        artifact.check_all_files()
        table.add_row("schema, checksums", "ok", f"{len(artifact.manifest.files)} files")
        for provider in KNOWN_PROVIDERS:
            reason = why_missing(provider)
            if reason is not None:
                table.add_row(str(provider), "absent", reason)
                continue
            try:
                difference = run_self_test(artifact, Session(artifact.read(MODEL_FILE), provider))
            except ArtifactError as error:
                sound = False
                table.add_row(str(provider), "refused", str(error))
            else:
                table.add_row(str(provider), "ok", f"largest golden difference {difference:.1e}")
    except ArtifactError as error:
        sound = False
        table.add_row("schema, checksums", "refused", str(error))
    Console(highlight=False, soft_wrap=True).print(table)
    context.exit(0 if sound else 1)
