"""`convd health`: check whether a server or a model is serving."""

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convd.commands.connection import server_option

_STATUSES = health_pb2.HealthCheckResponse.ServingStatus


@click.command()
@server_option
@click.option("--model", default="", help="Check this model instead of the whole server.")
def command(server: str, model: str) -> None:
    """Check over grpc.health.v1 whether a server is serving; exit with 1 if it is not.

    The containers use it as their health check.

    \b
    Example:
      convd health --server 127.0.0.1:8001 --model digits
    """
    what = f"model {model}" if model else f"server {server}"
    with grpc.insecure_channel(server) as channel:
        request = health_pb2.HealthCheckRequest(service=model)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=4)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise click.ClickException(
                    f"{what}: not found; 'convd models' lists the models"
                ) from error
            raise click.ClickException(
                f"{what}: {error.code().name}: {error.details()}; check that a server is running "
                "there"
            ) from error
    click.echo(f"{what}: {_STATUSES.Name(answer.status)}")
    if answer.status != _STATUSES.SERVING:
        raise SystemExit(1)
