"""`convd classify`: classify images on a server."""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from convd.client.client import Client
from convd.client.connection import Connection
from convd.client.errors import CannotConnectError, InvalidImageError, UnavailableError
from convd.client.results import Classification
from convd.commands import exit_codes
from convd.commands.connection import connect, connection_options

_BAR_WIDTH = 40
_PREDICTED_FROM = 0.5
_IMAGES_PER_CALL = 16
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_STANDARD_INPUT = Path("-")


@dataclasses.dataclass(frozen=True)
class _Question:
    """What is asked of each image."""

    model: str
    version: int | None
    version_label: str | None
    top_k: int
    timeout_seconds: float


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Name of the model.")
@click.option(
    "--version", type=click.IntRange(1), help="Version of the model [default: the newest]."
)
@click.option("--version-label", metavar="LABEL", help="Label of the version, such as stable.")
@click.option(
    "--top-k",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="How many classes to show; 0 shows all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long to wait for each answer, and for a model that is loading.",
)
@connection_options
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
    connection: Connection,
) -> None:
    """Classify images on a server, and show the probabilities as bars.

    IMAGES are files, folders (all their JPEG, PNG, WebP and BMP files, at any depth) or - for
    standard input. Exits with 1 if an image could not be classified.

    Where the labels of a model are independent of each other, each bar is a probability of its own,
    and those of at least one half are marked: the labels that the model says are true.

    \b
    Example:
      convd classify cat.jpg dog.png --model animals --top-k 3
      curl --silent https://example.org/cat.jpg | convd classify - --model animals
    """
    if version is not None and version_label is not None:
        raise click.UsageError("--version and --version-label exclude each other: use one of them")
    question = _Question(model, version, version_label, top_k, timeout_seconds)
    files = [file for image in images for file in _files(image)]
    show = _print_json if as_json else _draw
    refused = 0
    began = time.monotonic()
    with connect(connection) as client:
        for start in range(0, len(files), _IMAGES_PER_CALL):
            chunk = files[start : start + _IMAGES_PER_CALL]
            for file, result in zip(chunk, _ask(client, chunk, question), strict=True):
                if isinstance(result, Classification):
                    show(file, result)
                else:
                    refused += 1
                    click.echo(f"{file}: {result.message}", err=True)
    if len(files) > _IMAGES_PER_CALL:
        seconds = time.monotonic() - began
        click.echo(
            f"{len(files)} images in {seconds:.1f} s, {len(files) / seconds:.0f} per second"
            + (f"; {refused} could not be classified" if refused else ""),
            err=True,
        )
    context.exit(exit_codes.FAILED if refused else exit_codes.DONE)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise click.UsageError(f"the folder {path} has no JPEG, PNG, WebP or BMP files")
    return files


def _ask(
    client: Client, files: Sequence[Path], question: _Question
) -> Sequence[Classification | InvalidImageError]:
    images: list[Path | bytes] = [
        sys.stdin.buffer.read() if file == _STANDARD_INPUT else file for file in files
    ]
    while True:
        try:
            return client.classify(
                images,
                question.model,
                top_k=question.top_k,
                version=question.version,
                version_label=question.version_label,
                timeout_seconds=question.timeout_seconds,
            )
        except InvalidImageError as error:
            return error.results or (error,)
        except CannotConnectError:
            raise
        except UnavailableError as error:
            click.echo(f"waiting: {error.message}", err=True)
            client.wait_for_model(
                question.model,
                version=question.version,
                version_label=question.version_label,
                timeout_seconds=question.timeout_seconds,
            )


def _print_json(path: Path, result: Classification) -> None:
    answer = {
        "image": str(path),
        "model": result.model,
        "version": result.version,
        "task": result.task,
        "classes": [dataclasses.asdict(one) for one in result.classes],
    }
    click.echo(json.dumps(answer))


def _draw(path: Path, result: Classification) -> None:
    independent = result.task == "multilabel"
    table = Table(
        title=f"{path}  ({result.model} version {result.version})",
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
    for one in result.classes:
        bar = "█" * round(one.probability * _BAR_WIDTH)
        row = [one.label, bar or "▏", f"{one.probability:.4%}"]
        if independent:
            row.append("✓" if one.probability >= _PREDICTED_FROM else "")
        table.add_row(*row)
    Console(highlight=False, soft_wrap=True).print(table)
