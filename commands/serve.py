"""`convd serve`: answer over gRPC."""

import logging
from pathlib import Path
from typing import Any

import click

from artifact.errors import ArtifactError
from service.application import Application
from service.rpc.server import BindError
from service.settings import ServerSettings, SettingsError, load_settings
from service.workers.supervisor import Supervisor, WorkerError


def _with_settings(command: click.Command) -> click.Command:
    """Give a command one option for each of the server's settings."""
    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            # Without a default of its own, so that the variable and the file can still set it.
            command.params.append(
                click.Option(
                    [flag],
                    is_flag=True,
                    flag_value=True,
                    default=None,
                    help=f"{field.description} [off by default]",
                )
            )
            continue
        default = "required" if field.is_required() else f"default: {field.default}"
        command.params.append(
            click.Option(
                [flag],
                metavar=name.rpartition("_")[2].upper(),
                help=f"{field.description} [{default}]",
            )
        )
    return command


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="CONVD_CONFIG",
    help="YAML file with settings.",
)
def command(config: Path | None, **flags: Any) -> None:  # noqa: ANN401
    """Serve the models of a repository over gRPC.

    Every setting can be given as a flag, as a variable (--grpc-port is CONVD_GRPC_PORT) or in the
    YAML file (grpc_port: 8001), in this order of precedence. SIGTERM drains and exits with 0.

    \b
    Example:
      convd serve --repository repository --grpc-port 8001
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        given = {name: value for name, value in flags.items() if value is not None}
        settings = load_settings(given, config)
        server = Supervisor(settings) if settings.workers > 1 else Application(settings)
        server.run()
    except (SettingsError, ArtifactError, BindError, WorkerError) as error:
        raise click.ClickException(str(error)) from error


_with_settings(command)
