"""`convd export`: from a trained network to a verified artifact."""

from pathlib import Path

import click
from rich.console import Console

from artifact.errors import ArtifactError
from artifact.repository import ModelRepository
from export.errors import ExportError
from export.publication import publish
from export.source import network_from_checkpoint
from models.errors import ModelsError


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name under which the model is served.")
@click.option(
    "--repository",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with the models; made if it does not exist.",
)
@click.option("--data", help="Data to evaluate on [default: what the checkpoint held out].")
def command(source: Path, name: str, repository: Path, data: str | None) -> None:
    """Publish the network of a checkpoint as the next version of a model.

    The network becomes one ONNX graph from pictures to probabilities. It is published only if ONNX
    Runtime gives PyTorch's answers.

    \b
    Example:
      convd export runs/lenet --name digits --repository repository
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        with console.status("reading the checkpoint") as status:
            trained = network_from_checkpoint(source, data=data)
            published = publish(trained, ModelRepository(repository), name, report=status.update)
    except (ExportError, ArtifactError, ModelsError) as error:
        raise click.ClickException(str(error)) from error
    manifest = published.manifest
    console.print(f"published {name} version {published.version}: {published.path}")
    if manifest.accuracy is not None:
        console.print(
            f"accuracy {manifest.accuracy.top1:.2%} on {manifest.accuracy.examples} examples "
            f"({manifest.accuracy.data})"
        )
    for parity in manifest.parity:
        console.print(
            f"parity of {parity.provider} with {parity.reference}: probabilities differ by at most "
            f"{parity.max_probability_difference:.1e} over {parity.images} pictures in batches of "
            f"{', '.join(map(str, parity.batch_sizes))}"
        )
    console.print(f"next: convd serve --repository {repository}")
