"""`convd batch`: classify many pictures into Parquet files."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from convd.artifact.errors import ArtifactError
from convd.artifact.staging import replacing
from convd.client.errors import ClientError
from convd.commands.batch_here import SPARE_READERS, rows_here
from convd.commands.batch_inputs import PICTURES_PER_BATCH, InputError, Part, cut
from convd.commands.batch_rows import SCHEMA, BatchClassifier
from convd.local_model import FoundVersion, find_version

PLAN_FILE = "plan.json"


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
    help=f"Batches of {PICTURES_PER_BATCH} pictures that are read or computed at a time; 0, the "
    f"default, for {SPARE_READERS} more than there are cores.",
)
@click.option("--provider", default="auto", show_default=True, help="As of 'convd serve'.")
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Classify on the Ray cluster at this address; auto for the one of this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    source: str,
    model: str,
    output: Path,
    top_k: int,
    pictures_per_part: int,
    threads: int,
    provider: str,
    ray: str | None,
    as_json: bool,
) -> None:
    """Classify many pictures into Parquet files, with the answers that a server gives.

    INPUT is a folder with pictures, WebDataset shards (.tar) or Parquet files (with bytes or
    paths), one such file, or a list of paths (.txt); here, or at a URL such as s3://BUCKET/PREFIX.

    A picture that cannot be classified is a row with its error. A file of the output appears whole,
    so that a run that was interrupted, even by kill -9, goes on with the next one.

    With --ray, each core of a cluster classifies one part at a time. The model and the pictures
    have the same path on every node; the output is written here.

    \b
    Example:
      convd batch photos --model repository/photos --output answers
    """
    try:
        parts = cut(source, pictures_per_part)
        version = find_version(model)
        _check_plan(output, parts, version, top_k)
        targets = {output / f"part-{number:06}.parquet": part for number, part in enumerate(parts)}
        missing = {target: part for target, part in targets.items() if not target.exists()}
        place = str(version.path)
        if ray is not None:
            answers = _rows_on_ray(ray, missing, place, top_k, provider)
            pictures, errors = _write(answers, len(parts), len(missing))
        else:
            classify = BatchClassifier(place, top_k, provider)
            with classify.model:
                answers = rows_here(missing, classify, threads)
                pictures, errors = _write(answers, len(parts), len(missing))
    except (ArtifactError, InputError) as error:
        raise click.ClickException(str(error)) from error
    except (ClientError, OSError) as error:
        raise click.ClickException(f"{error}; the same command goes on from here") from error
    if as_json:
        click.echo(json.dumps({"pictures": pictures, "errors": errors, "output": str(output)}))
    else:
        click.echo(f"{pictures} pictures, {errors} with an error: {output}")


def _rows_on_ray(
    address: str, parts: dict[Path, Part], place: str, top_k: int, provider: str
) -> Iterator[tuple[Path, pa.Table | None]]:
    try:
        from convd.commands.batch_on_ray import rows_on_ray
    except ModuleNotFoundError as error:
        raise InputError(
            f"--ray needs the package {error.name!r}: pip install --constraint constraints.txt "
            "--requirement deploy/ray/requirements.txt in a clone of convd"
        ) from error
    return rows_on_ray(address, parts, place, top_k, provider)


def _check_plan(output: Path, parts: list[Part], version: FoundVersion, top_k: int) -> None:
    """Begin a folder of output, or refuse one that another run has begun."""
    plan = {
        "model": version.name,
        "version": version.version,
        "files": version.manifest.files,
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


def _write(
    answers: Iterator[tuple[Path, pa.Table | None]], parts: int, missing: int
) -> tuple[int, int]:
    """Write the parts that are missing; how many pictures these have, and how many errors."""
    pictures = errors = 0
    started = time.monotonic()
    tables: list[pa.Table] = []
    with _progress() as progress:
        task = progress.add_task("parts", total=parts, completed=parts - missing)
        for target, table in answers:
            if table is not None:
                tables.append(table)
                pictures += table.num_rows
                errors += table.num_rows - table["error"].null_count
                rate = pictures / (time.monotonic() - started)
                progress.update(task, description=f"{rate:.0f} pictures/s")
                continue
            with replacing(target) as file:
                pq.write_table(pa.concat_tables(tables) if tables else SCHEMA.empty_table(), file)
            tables = []
            progress.advance(task)
    return pictures, errors


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
