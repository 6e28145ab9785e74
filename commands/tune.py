"""`convd tune`: find the settings with which this machine serves a model best."""

import importlib.util
import json
import signal
import sys
import tempfile
from pathlib import Path

import click

from convd.artifact.errors import ArtifactError
from convd.commands import exit_codes
from convd.commands.tuning.conclusions import as_json, conclusions, show_rows
from convd.commands.tuning.configuration_text import UnchangeableError
from convd.commands.tuning.frontier import plot, rows_of
from convd.commands.tuning.neighbours import disturbances
from convd.commands.tuning.published_model import PublishedModel
from convd.commands.tuning.search import Outcome, Task, find_best
from convd.commands.tuning.trial_server import TrialError
from convd.installation import install_command
from convd.runtime.cores import available_cores
from convd.service.lifecycle.configuration import ConfigurationError
from convd.service.settings import SettingsError


@click.command()
@click.option("--model", "name", required=True, help="Name of the model.")
@click.option(
    "--repository",
    envvar="CONVD_REPOSITORY",
    default="repository",
    show_default=True,
    help="The repository, as for 'convd serve'.",
)
@click.option(
    "--p99-ms",
    type=click.FloatRange(0, min_open=True),
    help="Find the highest throughput at which 99 of 100 requests are answered within this time "
    "[default: no bound].",
)
@click.option(
    "--concurrency",
    "callers",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="Callers at a time, each of which waits for its answer; with --p99-ms, the most.",
)
@click.option(
    "--search-seconds",
    type=click.FloatRange(0),
    default=100.0,
    show_default=True,
    help="How long to search; then the best so far is compared with the default.",
)
@click.option("--dry-run", is_flag=True, help="Leave config.yaml as it is.")
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw throughput against latency into this file.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    context: click.Context,
    name: str,
    repository: str,
    p99_ms: float | None,
    callers: int,
    search_seconds: float,
    dry_run: bool,
    picture: Path | None,
    json_wanted: bool,
) -> None:
    """Find the settings with which this machine serves a model best; write them to config.yaml.

    Servers on loopback, of this command's own, classify the model's golden pictures on each
    provider, in each precision, with several numbers of threads, executions, rows in a batch and
    workers. The model's config.yaml changes only if the gain is larger than this machine's noise.

    Exits with 1 if no choice keeps --p99-ms.

    \b
    Example:
      convd tune --model digits --p99-ms 50 --plot frontier.png
    """
    # A signal that ended this process alone would leave its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if picture is not None:
            _check_plot(picture)
        model = PublishedModel.find(repository, name)
        may_write = not dry_run and not model.is_remote
        if may_write:
            model.check_writable()
        for sentence in disturbances():
            click.echo(f"note: {sentence}", err=True)
        outcome = _search(model, callers, p99_ms, search_seconds)
        rows = rows_of(outcome)
        written = may_write and outcome.keeps_bound and outcome.best is not outcome.current
        if written:
            model.write(outcome.best.choice)
        if picture is not None:
            plot(rows, picture, f"{name} version {model.version} on this machine", p99_ms)
    except (
        ArtifactError,
        ConfigurationError,
        SettingsError,
        TrialError,
        UnchangeableError,
    ) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or name}: {error.strerror}") from error
    if json_wanted:
        click.echo(json.dumps(as_json(model, outcome, rows, written=written), indent=2))
    else:
        show_rows(rows)
        for line in conclusions(model, outcome, written=written):
            click.echo(line)
    context.exit(exit_codes.DONE if outcome.keeps_bound else exit_codes.FAILED)


def _search(
    model: PublishedModel, callers: int, p99_ms: float | None, search_seconds: float
) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="convd-tune-") as scratch:
        copies, trials = Path(scratch, "versions"), Path(scratch, "trials")
        task = Task(
            subject=model.subject(copies),
            current=model.choice,
            callers=callers,
            p99_seconds=None if p99_ms is None else p99_ms / 1e3,
            cores=available_cores(),
            limit_seconds=search_seconds,
            alternatives=model.alternatives(copies),
        )
        return find_best(task, trials, lambda text: click.echo(text, err=True))


def _check_plot(picture: Path) -> None:
    """Refuse a picture that could not be drawn after all has been measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException(f"--plot needs matplotlib: {install_command('bench')}")
    if not picture.absolute().parent.is_dir():
        raise click.ClickException(f"--plot: {picture.parent} is not a folder")
