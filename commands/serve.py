"""`convd serve`: serve models over gRPC."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from convd.artifact.errors import ArtifactError
from convd.artifact.location import locate
from convd.service.address import BindError
from convd.service.application import Application
from convd.service.calls.log_format import configure_logging
from convd.service.settings import ServerSettings, SettingsError
from convd.service.settings_sources import load_settings
from convd.service.termination import end_process
from convd.service.workers.supervisor import Supervisor, WorkerError


def _with_settings(command: click.Command) -> click.Command:
    """Add an option for each of the server's settings to a command."""
    for name, field in ServerSettings.model_fields.items():
        default = "required" if field.is_required() else f"default: {field.default}"
        flag = name.replace("_", "-")
        help_text = f"{field.description} [{default}]"
        if field.annotation is bool:
            # Without a default, so that the variable and the file can still set it.
            option = click.Option([f"--{flag}/--no-{flag}"], default=None, help=help_text)
        else:
            metavar = name.rpartition("_")[2].upper()
            option = click.Option([f"--{flag}"], metavar=metavar, help=help_text)
        command.params.append(option)
    return command


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="CONVD_CONFIG",
    help="YAML file with settings, such as grpc_port: 8001.",
)
def command(place: Path | None, config: Path | None, **flags: Any) -> None:  # noqa: ANN401
    """Serve the models of a repository over gRPC.

    PLACE is a model repository, the folder of one of its models, or the folder of one version, as
    'convd export' prints it; it takes the place of --repository and --models.

    Set each setting by flag, by variable (CONVD_GRPC_PORT for --grpc-port) or in the YAML file, in
    this order of precedence. SIGTERM drains the server, which then exits with 0, or with 3 if it
    had to cut calls off; a second SIGTERM ends it at once. SIGHUP makes it check the repository.

    \b
    Example:
      convd serve repository --grpc-port 8001
      convd serve repository/digits/1
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        if place is not None:
            given |= _settings_of(place, given)
        settings = load_settings(given, config)
        configure_logging(settings.log_format, settings.log_level)
        server = Supervisor(settings) if settings.workers > 1 else Application(settings)
        exit_code = server.run()
    except (SettingsError, ArtifactError, BindError, WorkerError) as error:
        raise click.ClickException(str(error)) from error
    end_process(exit_code)


def _settings_of(place: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that serve a place.

    Raises:
        RepositoryError: It is not in a repository.
        click.UsageError: A flag says the same.
    """
    for name in ("repository", "models"):
        if name in given:
            raise click.UsageError(f"give either {place} or --{name}, not both")
    found = locate(place)
    settings: dict[str, Any] = {"repository": found.repository}
    if found.model is not None:
        version = "" if found.version is None else f":{found.version}"
        settings["models"] = found.model + version
    return settings


_with_settings(command)
