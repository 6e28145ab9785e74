"""`convd batch`: classify many pictures into Parquet files."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convd.artifact.errors import ArtifactError
from convd.artifact.staging import replacing
from convd.client.errors import ClientError, InvalidImageError, OverloadedError
from convd.client.results import Classification
from convd.commands.batch_inputs import InputError, Part, Picture, cut
from convd.local_model import LocalModel, load

PLAN_FILE = "plan.json"

_PAUSE_SECONDS = 0.1

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("model", pa.string()),
        ("version", pa.int64()),
        ("labels", pa.list_(pa.string())),
        ("probabilities", pa.list_(pa.float32())),
        ("error", pa.string()),
        ("seconds", pa.float32()),
    ]
)


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("--model", required=True, metavar="PLACE", help="Folder of a model or of a version.")
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the Parquet files; a run that was interrupted goes on there.",
)
@click.option(
    "--top-k", default=5, show_default=True, type=click.IntRange(min=0), help="0 for all."
)
@click.option(
    "--pictures-per-part",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Single pictures in one file of the output.",
)
@click.option("--threads", default=64, show_default=True, type=click.IntRange(1, 1024))
@click.option("--provider", default="auto", show_default=True, help="As of 'convd serve'.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    source: str,
    model: str,
    output: Path,
    top_k: int,
    pictures_per_part: int,
    threads: int,
    provider: str,
    as_json: bool,
) -> None:
    """Classify many pictures into Parquet files, with the answers that a server gives.

    INPUT is a folder with pictures, WebDataset shards (.tar) or Parquet files (with bytes or
    paths), one such file, or a list of paths (.txt); here, or at a URL such as s3://BUCKET/PREFIX.

    A picture that cannot be classified is a row with its error. A file of the output appears whole,
    so that a run that was interrupted, even by kill -9, goes on with the next one.

    \b
    Example:
      convd batch photos --model repository/photos --output answers
    """
    try:
        parts = cut(source, pictures_per_part)
        with load(model, provider=provider) as loaded:
            _check_plan(output, parts, loaded, top_k)
            pictures, errors = _run(parts, loaded, output, top_k, threads)
    except (ArtifactError, InputError) as error:
        raise click.ClickException(str(error)) from error
    except (ClientError, OSError) as error:
        raise click.ClickException(f"{error}; the same command goes on from here") from error
    if as_json:
        click.echo(json.dumps({"pictures": pictures, "errors": errors, "output": str(output)}))
    else:
        click.echo(f"{pictures} pictures, {errors} with an error: {output}")


def _check_plan(output: Path, parts: list[Part], model: LocalModel, top_k: int) -> None:
    """Begin a folder of output, or refuse one that another run has begun."""
    plan = {
        "model": model.name,
        "version": model.version,
        "files": model.manifest.files,
        "top_k": top_k,
        "parts": [part.name for part in parts],
    }
    output.mkdir(parents=True, exist_ok=True)
    begun = output / PLAN_FILE
    if begun.exists():
        if json.loads(begun.read_text()) != plan:
            raise InputError(
                f"{output} has the output of another model, input or --top-k: give another folder"
            )
        return
    with replacing(begun) as file:
        file.write(json.dumps(plan).encode())


def _run(
    parts: list[Part], model: LocalModel, output: Path, top_k: int, threads: int
) -> tuple[int, int]:
    """Write the parts that are missing; how many pictures these have, and how many errors."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    pictures = errors = 0
    started = time.monotonic()
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task("parts", total=len(parts))
        for number, part in enumerate(parts):
            target = output / f"part-{number:06}.parquet"
            if not target.exists():
                rows = list(_classified(part.pictures(), model, top_k, pool, threads))
                table = pa.Table.from_pylist(rows, schema=SCHEMA)
                with replacing(target) as file:
                    pq.write_table(table, file)
                pictures += len(rows)
                errors += sum(row["error"] is not None for row in rows)
            rate = pictures / (time.monotonic() - started)
            progress.update(task, advance=1, description=f"{rate:.0f} pictures/s")
    return pictures, errors


def _classified(
    pictures: Iterator[Picture],
    model: LocalModel,
    top_k: int,
    pool: ThreadPoolExecutor,
    threads: int,
) -> Iterator[dict[str, Any]]:
    """Rows in the order of the pictures, of which only so many are in memory at a time."""
    waiting: list[Future[dict[str, Any]]] = []
    for picture in pictures:
        waiting.append(pool.submit(_row, picture, model, top_k))
        if len(waiting) >= 2 * threads:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def _row(picture: Picture, model: LocalModel, top_k: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {"path": picture.path, "model": model.name, "version": model.version}
    started = time.perf_counter()
    try:
        classes = _classify(picture.read(), model, top_k).classes
        row["labels"] = [one.label for one in classes]
        row["probabilities"] = [one.probability for one in classes]
    except (InvalidImageError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        row["error"] = str(error)
    row["seconds"] = time.perf_counter() - started
    return row


def _classify(data: bytes, model: LocalModel, top_k: int) -> Classification:
    while True:
        try:
            return model.classify(data, top_k=top_k)
        # There is no memory to decode it now: it must not depend on the moment whether it has a row
        # with answers.
        except OverloadedError:
            time.sleep(_PAUSE_SECONDS)
