"""`convd batch`: classify many pictures into Parquet files."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import TypeVar

import click
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convd.artifact.errors import ArtifactError
from convd.artifact.staging import replacing
from convd.client.errors import ClientError
from convd.commands.batch_inputs import InputError, Part, Picture, cut, read_files
from convd.commands.batch_rows import SCHEMA, BatchClassifier
from convd.local_model import LocalModel
from convd.runtime.cores import available_cores

PLAN_FILE = "plan.json"

_PICTURES_PER_BATCH = 32
_SPARE_READERS = 2

_Item = TypeVar("_Item")


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
@click.option(
    "--threads",
    default=0,
    type=click.IntRange(0, 1024),
    help=f"Batches of {_PICTURES_PER_BATCH} pictures that are read or computed at a time; 0, the "
    f"default, for {_SPARE_READERS} more than there are cores.",
)
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
        classify = BatchClassifier(model, top_k, provider)
        with classify.model:
            _check_plan(output, parts, classify.model, top_k)
            readers = threads or available_cores() + _SPARE_READERS
            pictures, errors = _run(parts, classify, output, readers)
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
    parts: list[Part], classify: BatchClassifier, output: Path, readers: int
) -> tuple[int, int]:
    """Write the parts that are missing; how many pictures these have, and how many errors."""
    targets = {output / f"part-{number:06}.parquet": part for number, part in enumerate(parts)}
    missing = {target: part for target, part in targets.items() if not target.exists()}
    cores = Semaphore(available_cores())

    def rows(pictures: list[Picture]) -> pa.Table:
        files = read_files(pictures)
        # Threads beyond the cores read ahead: more that compute would only take turns.
        with cores:
            return classify([picture.path for picture in pictures], files)

    pictures = errors = 0
    started = time.monotonic()
    tables: list[pa.Table] = []
    with _progress() as progress, ThreadPoolExecutor(readers) as pool:
        task = progress.add_task("parts", total=len(parts), completed=len(parts) - len(missing))
        for target, table in _ahead(_submitted(missing, rows, pool), readers + 1):
            if table is not None:
                tables.append(table.result())
                pictures += tables[-1].num_rows
                errors += tables[-1].num_rows - tables[-1]["error"].null_count
                rate = pictures / (time.monotonic() - started)
                progress.update(task, description=f"{rate:.0f} pictures/s")
                continue
            with replacing(target) as file:
                pq.write_table(pa.concat_tables(tables) if tables else SCHEMA.empty_table(), file)
            tables = []
            progress.advance(task)
    return pictures, errors


def _submitted(
    parts: dict[Path, Part], rows: Callable[[list[Picture]], pa.Table], pool: ThreadPoolExecutor
) -> Iterator[tuple[Path, Future[pa.Table] | None]]:
    """Each batch of each part as it is submitted, and None behind the last one of a part."""
    for target, part in parts.items():
        pictures = part.pictures()
        while batch := list(islice(pictures, _PICTURES_PER_BATCH)):
            yield target, pool.submit(rows, batch)
        yield target, None


def _ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """The items, each taken when `count` others have been; all that there are before an error."""
    taken: deque[_Item] = deque()
    try:
        for item in items:
            taken.append(item)
            if len(taken) > count:
                yield taken.popleft()
    except InputError:
        yield from taken
        raise
    yield from taken


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
