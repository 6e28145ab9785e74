"""`convd models`: list the models of a server."""

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Sequence

import click

from convd.client.connection import Connection
from convd.client.results import ModelVersion
from convd.commands.connection import connect, connection_options

_HEADINGS = ("MODEL", "VERSION", "STATE", "ACCURACY", "COMPUTED BY")
_SHOWN_LABELS = 10
_INDENT = "  "


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per version.")
@connection_options
def command(connection: Connection, as_json: bool) -> None:
    """List every version of every model on a server: state, accuracy, provider, labels, classes.

    For independent labels, the accuracy is the mean average precision (mAP).

    \b
    Example:
      convd models --server 127.0.0.1:8001
    """
    with connect(connection) as client:
        models = client.models()
        classes = {
            (one.name, one.version): client.model(one.name, version=one.version).labels
            for one in models
            if one.state == "available"
        }
    if as_json:
        for one in models:
            names = classes.get((one.name, one.version), ())
            click.echo(json.dumps(dataclasses.asdict(one) | {"class_names": names}))
    elif not models:
        click.echo("the server has no models")
    else:
        _show(models, classes)


def _show(models: Sequence[ModelVersion], classes: dict[tuple[str, int], tuple[str, ...]]) -> None:
    rows = [_row(one) for one in models]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    width = shutil.get_terminal_size().columns
    click.echo(_line(_HEADINGS, widths))
    for one, row in zip(models, rows, strict=True):
        click.echo(_line(row, widths))
        for detail in _details(one, classes.get((one.name, one.version), ())):
            lines = textwrap.wrap(
                detail, width, initial_indent=_INDENT, subsequent_indent=2 * _INDENT
            )
            click.echo("\n".join(lines))


def _row(model: ModelVersion) -> tuple[str, ...]:
    provider = model.provider.removesuffix("ExecutionProvider")
    return (
        model.name,
        str(model.version),
        model.state,
        _accuracy(model),
        f"{provider} in {model.precision}" if provider else "",
    )


def _details(model: ModelVersion, classes: Sequence[str]) -> list[str]:
    details = []
    if model.version_labels:
        details.append(f"labels: {', '.join(model.version_labels)}")
    if model.reason:
        details.append(model.reason)
    if classes:
        shown = ", ".join(classes[:_SHOWN_LABELS])
        more = ", ..." if len(classes) > _SHOWN_LABELS else ""
        kind = "independent labels" if model.task == "multilabel" else "classes"
        details.append(f"{len(classes)} {kind}: {shown}{more}")
    return details


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _accuracy(model: ModelVersion) -> str:
    if model.mean_average_precision is not None:
        return f"{model.mean_average_precision:.4f} mAP"
    return f"{model.accuracy:.2%}" if model.accuracy is not None else "not measured"
