"""`convd doctor`: what is here, what is in the way, and what to do about it."""

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from convd.artifact.errors import ArtifactError
from convd.artifact.location import locate
from convd.commands import exit_codes
from convd.commands.diagnosis import (
    Finding,
    examine_machine,
    examine_port,
    examine_repository,
    examine_storage,
)

_MARKS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="CONVD_CONFIG",
    help="The YAML file that 'convd serve' is to read.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding.")
@click.pass_context
def command(context: click.Context, place: Path | None, config: Path | None, as_json: bool) -> None:
    """Check Python, extras, providers, cores, memory, settings, ports and the repository.

    PLACE and the settings are those of 'convd serve'. Exits with 1 if there is a problem.

    \b
    Example:
      convd doctor repository
    """
    findings = []
    for finding in (*examine_machine(), *_examine_settings(place, config)):
        findings.append(finding)
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(finding)))
        else:
            _show(finding)
    problems = sum(finding.state == "problem" for finding in findings)
    if not as_json:
        count = {0: "no problem", 1: "1 problem"}.get(problems, f"{problems} problems")
        click.echo(f"{count} found")
    context.exit(exit_codes.FAILED if problems else exit_codes.DONE)


def _examine_settings(place: Path | None, config: Path | None) -> Iterator[Finding]:
    try:
        from convd.service.settings import SettingsError
        from convd.service.settings_sources import load_settings
    except ModuleNotFoundError:
        # The extra that is missing has a finding of its own.
        return
    try:
        given = {} if place is None else {"repository": locate(place).repository}
        # The repository is all that has to be given.
        settings = load_settings({"repository": Path()} | given, config)
    except (SettingsError, ArtifactError) as error:
        yield Finding("settings", "problem", str(error))
        return
    yield Finding("settings", "ok", f"from {config}" if config else "from variables, or defaults")
    yield examine_port(settings.host, settings.grpc_port, "grpc_port")
    yield examine_port(settings.host, settings.http_port, "http_port")
    try:
        repository = load_settings(given, config).repository
    except SettingsError:
        yield Finding("repository", "note", "none is given: 'convd doctor REPOSITORY' checks one")
    else:
        if isinstance(repository, Path):
            yield from examine_repository(repository)
        else:
            yield from examine_storage(repository)


def _show(finding: Finding) -> None:
    head = f"{_MARKS[finding.state]:8} {finding.subject:11} "
    width = max(shutil.get_terminal_size().columns, 60)
    lines = textwrap.wrap(
        finding.text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo("\n".join(lines))
