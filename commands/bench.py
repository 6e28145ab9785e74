"""`convd bench`: load a server and show how it answers."""

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from convd.client.connection import Connection
from convd.commands.connection import connect, connection_options
from convd.commands.load_generator import Workload, random_requests, run_workload
from convd.commands.load_report import LoadReport, plot, summarize
from convd.protos.convd.v1 import classification_pb2 as pb


@click.command()
@click.argument("images", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, help="Name of the model.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Callers in a closed loop: each sends its next request after its answer.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests per second in an open loop, independent of the answers.",
)
@click.option(
    "--duration-seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="How long to send requests.",
)
@click.option(
    "--warm-up-seconds",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="How long to send requests beforehand, without counting them.",
)
@click.option(
    "--deadline-seconds",
    type=click.FloatRange(0, min_open=True),
    help="Deadline of each request [default: none].",
)
@click.option(
    "--images-per-request",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images per request.",
)
@click.option(
    "--connections",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Connections to spread the requests over.",
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plot latency by percentile and over time into this file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def command(
    images: tuple[Path, ...],
    model: str,
    concurrency: int,
    rate: float | None,
    duration_seconds: float,
    warm_up_seconds: float,
    deadline_seconds: float | None,
    images_per_request: int,
    connections: int,
    picture: Path | None,
    as_json: bool,
    connection: Connection,
) -> None:
    """Put load on a server, and report rates, latency percentiles and statuses.

    Without IMAGES, random prepared images are sent, which need no decoding. A closed loop
    (--concurrency) measures the server's throughput; an open loop (--rate) measures the latency
    that callers experience.

    \b
    Example:
      convd bench --model digits --concurrency 32 --plot latency.png
      convd bench cat.jpg dog.jpg --model animals --rate 100 --deadline-seconds 0.2
    """
    if images:
        files = [path.read_bytes() for path in images]
        requests = [
            _encoded_request(model, files, start, images_per_request) for start in range(len(files))
        ]
        with connect(connection) as client:
            client.classify(list(images[:images_per_request]), model)
    else:
        with connect(connection) as client:
            shape = client.model(model).input_shape
        if not shape:
            raise click.ClickException(f"model {model!r} is not available yet: try again later")
        requests = random_requests(model, shape, rows=[images_per_request] * 16)
    workload = Workload(
        connection=connection,
        requests=requests,
        seconds=warm_up_seconds + duration_seconds,
        concurrency=concurrency,
        rate=rate,
        deadline_seconds=deadline_seconds,
        connections=connections,
    )
    samples = run_workload(workload)
    report = summarize(samples, warm_up_seconds=warm_up_seconds)
    if picture is not None:
        loop = f"{rate:g} requests per second" if rate else f"{concurrency} callers"
        plot(samples, picture, f"{model} at {connection.server}: {loop}")
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report), indent=2))
        return
    _show(report)


def _encoded_request(model: str, files: list[bytes], start: int, count: int) -> pb.ClassifyRequest:
    chosen = [files[(start + offset) % len(files)] for offset in range(count)]
    return pb.ClassifyRequest(
        model=pb.ModelSpec(name=model),
        images=[pb.Image(encoded=data) for data in chosen],
        top_k=5,
    )


def _show(report: LoadReport) -> None:
    console = Console(highlight=False, soft_wrap=True)
    statuses = ", ".join(f"{count} {code}" for code, count in sorted(report.codes.items()))
    console.print(f"{report.requests} requests in {report.seconds:.1f} s: {statuses}")
    console.print(
        f"successful: {report.requests_per_second:.1f} requests and "
        f"{report.images_per_second:.1f} images per second"
    )
    table = Table(box=None)
    table.add_column("latency (ms)")
    columns = [("answered", report.latency_seconds), ("refused", report.refusal_seconds)]
    rows = [(name, values) for name, values in columns if values]
    for percent in rows[0][1]:
        table.add_column("slowest" if percent == 100 else f"p{percent:g}", justify="right")
    for name, values in rows:
        table.add_row(name, *(f"{seconds * 1e3:.2f}" for seconds in values.values()))
    console.print(table)
