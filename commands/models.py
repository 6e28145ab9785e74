"""`convd models`: list the models of a server."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from convd.commands.connection import connect, server_option
from convd.protos.convd.v1 import classification_pb2 as pb

_HEADINGS = ("model", "version", "labels", "state", "provider", "accuracy", "golden", "classes")


@click.command()
@server_option
def command(server: str) -> None:
    """List every version of every model on a server, with state, provider, accuracy and classes.

    For independent labels, the accuracy is the mean average precision (mAP).

    \b
    Example:
      convd models --server 127.0.0.1:8001
    """
    table = Table(box=None)
    for heading in _HEADINGS:
        table.add_column(heading)
    with connect(server) as stub:
        for one in stub.ListModels(pb.ListModelsRequest(), timeout=10).models:
            labels = ""
            if one.state == pb.ModelVersion.STATE_AVAILABLE:
                spec = pb.ModelSpec(name=one.name, version=one.version)
                described = stub.GetModel(pb.GetModelRequest(model=spec), timeout=10)
                independent = one.task == pb.TASK_MULTILABEL
                labels = ("independent: " if independent else "") + _shorten(described.labels)
            state = pb.ModelVersion.State.Name(one.state).removeprefix("STATE_").lower()
            table.add_row(
                one.name,
                str(one.version),
                ", ".join(one.version_labels),
                state,
                one.provider,
                _accuracy(one),
                f"{one.golden_difference:.1e}" if one.HasField("golden_difference") else "",
                one.reason or labels,
            )
    Console(highlight=False, soft_wrap=True).print(table)


def _accuracy(model: pb.ModelVersion) -> str:
    if model.HasField("mean_average_precision"):
        return f"{model.mean_average_precision:.4f} mAP"
    return f"{model.accuracy:.2%}" if model.HasField("accuracy") else ""


def _shorten(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown}, ... ({len(labels)} in total)"
