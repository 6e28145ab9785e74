"""`convd shadow`: how the answers of a candidate version differ from those of the live one."""

from pathlib import Path

import click

from convd.client.connection import Connection
from convd.commands.connection import connect, connection_options
from convd.commands.shadow_report import as_html, as_json, as_markdown

_WRITERS = {".md": as_markdown, ".html": as_html, ".json": as_json}


@click.command()
@click.option("--model", "--name", "model", default="", help="Only this model [default: all].")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, in place of the terminal: .md, .html (with the pictures that the server "
    "keeps) or .json.",
)
@click.option("--json", "json_lines", is_flag=True, help="Print JSON.")
@connection_options
def command(model: str, output: Path | None, json_lines: bool, connection: Connection) -> None:
    """Report how a candidate version's answers differ from those of the version that answers.

    The server compares versions if the model's config.yaml says so:

    \b
      labels: {stable: 3, canary: 4}
      shadow: {share: 0.1}

    \b
    Example:
      convd shadow --model pets --output report.html
    """
    if output is not None and output.suffix.lower() not in _WRITERS:
        raise click.UsageError(f"--output {output}: give a file that ends in .md, .html or .json")
    with connect(connection) as client:
        comparisons = client.comparisons(model)
    if not comparisons:
        raise click.ClickException(
            f"the server compares no versions{f' of {model}' if model else ''}: give labels and "
            "shadow in the model's config.yaml, and publish both versions"
        )
    if output is None:
        click.echo(as_json(comparisons) if json_lines else as_markdown(comparisons), nl=False)
        return
    try:
        output.write_text(_WRITERS[output.suffix.lower()](comparisons), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from error
    for one in comparisons:
        click.echo(
            f"{one.model}: version {one.candidate} beside version {one.live}, {one.compared} "
            f"pictures compared, {one.top1_agreements} alike: {output}"
        )
