"""`convd explain`: where in an image the evidence for a class lies."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from convd.client.connection import Connection
from convd.client.explanation import Method
from convd.commands.connection import connect, connection_options

_NUMBERS = ".npy"


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "--name", "model", required=True, help="Name of the model.")
@click.option(
    "--version", type=click.IntRange(1), help="Version of the model [default: the newest]."
)
@click.option("--version-label", metavar="LABEL", help="Label of the version, such as stable.")
@click.option("--label", help="The class to explain [default: the most probable one].")
@click.option(
    "--method",
    type=click.Choice(["auto", "class-activation", "occlusion"]),
    default="auto",
    show_default=True,
    help="auto is class-activation for models that were exported with --features, end in global "
    "average pooling and one linear layer, and have maps of at least 7 x 7 there (an input of "
    "about 224 x 224), otherwise occlusion.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .png for the image with the map over it, .npy for the numbers.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long to wait; occlusion takes the time that classification leaves.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def command(
    image: Path,
    model: str,
    version: int | None,
    version_label: str | None,
    label: str | None,
    method: Method,
    output: Path,
    timeout_seconds: float,
    as_json: bool,
    connection: Connection,
) -> None:
    """Say where in IMAGE the evidence for a class lies, and draw it over the image.

    \b
    Example:
      convd explain dog.jpg --model pets --output dog-explained.png
    """
    if version is not None and version_label is not None:
        raise click.UsageError("--version and --version-label exclude each other: use one of them")
    if output.suffix.lower() not in (".png", _NUMBERS):
        raise click.UsageError(f"--output {output}: give a file that ends in .png or .npy")
    errors = Console(stderr=True)
    with connect(connection) as client, Progress(console=errors, transient=True) as progress:
        task = progress.add_task("asking the model", total=None)
        found = client.explain(
            image,
            model,
            version=version,
            version_label=version_label,
            label=label,
            method=method,
            timeout_seconds=timeout_seconds,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    try:
        if output.suffix.lower() == _NUMBERS:
            import numpy as np

            np.save(output, np.array(found.heat, np.float32))
        else:
            output.write_bytes(found.overlay_png)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from error
    if as_json:
        told = {"model": found.model, "version": found.version, "label": found.label}
        told |= {"probability": found.probability, "method": found.method, "output": str(output)}
        click.echo(json.dumps(told))
        return
    click.echo(
        f"{found.label} {found.probability:.4%} ({found.model} version {found.version}), by "
        f"{found.method}: {output}"
    )
