"""`convd verify`: does an artifact keep its promise on this machine?"""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from artifact.bundle import MODEL_FILE, Artifact
from artifact.errors import ArtifactError
from service.providers import CPU, Session
from service.selftest import run_self_test


@click.command()
@click.argument("artifact_dir", type=click.Path(path_type=Path))
@click.pass_context
def command(context: click.Context, artifact_dir: Path) -> None:
    """Check an artifact's checksums and run its golden cases here.

    Exits with 1 if it must not be served.

    \b
    Example:
      convd verify repository/digits/1
    """
    table = Table(box=None)
    table.add_column("check")
    table.add_column("result")
    sound = True
    try:
        artifact = Artifact.open(artifact_dir)
        artifact.check_all_files()
        table.add_row("checksums and schema", f"ok, {len(artifact.manifest.files)} files")
        session = Session(artifact.read(MODEL_FILE), CPU)
        difference = run_self_test(artifact, session.run, CPU.precision)
        tolerance = artifact.manifest.golden_tolerances[CPU.precision]
        table.add_row(
            f"golden cases on {CPU.name}",
            f"ok, largest difference {difference:.1e} of {tolerance:.0e} allowed",
        )
    except ArtifactError as error:
        sound = False
        table.add_row("refused", str(error))
    Console(highlight=False, soft_wrap=True).print(table)
    context.exit(0 if sound else 1)
