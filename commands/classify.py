"""`convd classify`: classify images on a server."""

import json
from pathlib import Path

import click
import grpc
from rich.console import Console
from rich.table import Table

from convd.commands.connection import connect, server_option
from convd.protos.convd.v1 import classification_pb2 as pb

_BAR_WIDTH = 40
_PREDICTED_FROM = 0.5


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Name of the model.")
@click.option("--version", type=int, help="Version of the model [default: the newest].")
@click.option("--version-label", metavar="LABEL", help="Label of the version, such as stable.")
@click.option(
    "--top-k",
    type=int,
    default=5,
    show_default=True,
    help="How many classes to show; 0 shows all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option("--timeout-seconds", type=float, default=30.0, show_default=True)
@server_option
@click.pass_context
def command(
    context: click.Context,
    images: tuple[Path, ...],
    model: str,
    version: int | None,
    version_label: str | None,
    top_k: int,
    as_json: bool,
    timeout_seconds: float,
    server: str,
) -> None:
    """Classify images on a server, and show the probabilities as bars.

    Where the labels of a model are independent of each other, each bar is a probability of its own,
    and those of at least one half are marked: the labels that the model says are true.

    \b
    Example:
      convd classify cat.jpg dog.png --model animals --top-k 3
    """
    if version is not None and version_label is not None:
        raise click.UsageError("--version and --version-label exclude each other: use one of them")
    spec = pb.ModelSpec(name=model)
    if version is not None:
        spec.version = version
    if version_label is not None:
        spec.version_label = version_label
    refused = 0
    with connect(server) as stub:
        for path in images:
            try:
                image = pb.Image(encoded=path.read_bytes())
                request = pb.ClassifyRequest(model=spec, images=[image], top_k=top_k)
                response = stub.Classify(request, timeout=timeout_seconds)
            except OSError as error:
                refused += 1
                click.echo(f"{path}: cannot read the file: {error.strerror}", err=True)
            except grpc.RpcError as error:
                # An invalid argument concerns this image; any other failure concerns all images.
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                refused += 1
                click.echo(f"{path}: {error.details()}", err=True)
            else:
                show = _print_json if as_json else _draw
                show(path, response)
    context.exit(1 if refused else 0)


def _print_json(path: Path, response: pb.ClassifyResponse) -> None:
    classes = [
        {"index": one.index, "label": one.label, "probability": one.probability}
        for one in response.results[0].classification.classes
    ]
    answer = {
        "image": str(path),
        "model": response.model_name,
        "version": response.model_version,
        "task": pb.Task.Name(response.task).removeprefix("TASK_").lower(),
        "classes": classes,
    }
    click.echo(json.dumps(answer))


def _draw(path: Path, response: pb.ClassifyResponse) -> None:
    independent = response.task == pb.TASK_MULTILABEL
    table = Table(
        title=f"{path}  ({response.model_name} version {response.model_version})",
        title_justify="left",
        box=None,
        show_header=False,
        caption="✓ true of the image; independent labels, whose probabilities do not sum to 100 %"
        if independent
        else None,
        caption_justify="left",
    )
    table.add_column(justify="right")
    table.add_column(min_width=_BAR_WIDTH)
    table.add_column(justify="right")
    for one in response.results[0].classification.classes:
        bar = "█" * round(one.probability * _BAR_WIDTH)
        row = [one.label, bar or "▏", f"{one.probability:.4%}"]
        if independent:
            row.append("✓" if one.probability >= _PREDICTED_FROM else "")
        table.add_row(*row)
    Console(highlight=False, soft_wrap=True).print(table)
