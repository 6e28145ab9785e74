"""`convd health`: check whether a server or a model is serving."""

import json

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from convd.client.connection import Connection
from convd.client.errors import NotFoundError, error_of_call
from convd.commands import exit_codes
from convd.commands.connection import connection_options
from convd.commands.own_server import trust_own_server

_STATUSES = health_pb2.HealthCheckResponse.ServingStatus
_SERVING = "SERVING"


@click.command()
@connection_options
@click.option("--model", default="", help="Check this model instead of the whole server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(connection: Connection, model: str, as_json: bool) -> None:
    """Check over grpc.health.v1 whether a server is serving; exit with 1 if it is not.

    The containers use it as their health check: where the variables of convd serve name a
    certificate, and no option for TLS is given, a server on this machine is expected to have it.

    \b
    Example:
      convd health --server 127.0.0.1:8001 --model digits
    """
    try:
        connection = trust_own_server(connection)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"the certificate of CONVD_TLS_CERTIFICATE: {error}") from error
    what = f"model {model}" if model else f"server {connection.server}"
    with connection.open() as channel:
        reason = ""
        try:
            status = _ask(channel, model)
        except grpc.RpcError as error:
            failure = error_of_call(error, connection.server)
            status, reason = failure.code, failure.message
            if isinstance(failure, NotFoundError):
                reason = "not found; 'convd models' lists the models"
    serving = status == _SERVING
    if as_json:
        click.echo(
            json.dumps({"model": model, "serving": serving, "status": status, "reason": reason})
        )
    elif reason:
        click.echo(f"Error: {what}: {reason}", err=True)
    else:
        click.echo(f"{what}: {status}")
    if not serving:
        raise SystemExit(exit_codes.FAILED)


def _ask(channel: grpc.Channel, model: str) -> str:
    request = health_pb2.HealthCheckRequest(service=model)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=4)
    return str(_STATUSES.Name(answer.status))
