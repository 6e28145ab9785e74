"""`convd init`: write a configuration with every setting, explained."""

import textwrap
from pathlib import Path

import click

from convd.service.settings import ServerSettings

_WIDTH = 96


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default="convd.yaml")
def command(file: Path) -> None:
    """Write a configuration file for 'convd serve --config FILE', by default convd.yaml.

    It has every setting with its description and default, as comments: remove the # before those
    that you change.

    \b
    Example:
      convd init && convd serve --config convd.yaml
    """
    try:
        with file.open("x", encoding="utf-8") as output:
            output.write(commented_settings())
    except FileExistsError:
        raise click.ClickException(
            f"{file} exists already, and is left as it is: give another name"
        ) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {file}: {error.strerror}") from error
    click.echo(f"wrote {file}; next: convd serve --config {file}")


def commented_settings() -> str:
    """The text of a configuration in which the repository alone is set."""
    parts = ["# Settings of 'convd serve'. Flags and CONVD_* variables go before this file.\n"]
    for name, field in ServerSettings.model_fields.items():
        lines = textwrap.wrap(
            str(field.description), _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        if field.is_required():
            lines.append(f"{name}: {name}")
        else:
            lines.append(f"#{name}: {_as_yaml(field.default)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _as_yaml(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else f'"{value}"'
