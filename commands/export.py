"""`convd export`: from a trained network to a verified artifact."""

import json
from pathlib import Path

import click
from rich.console import Console

from convd.artifact.errors import ArtifactError
from convd.artifact.repository import check_model_name
from convd.artifact.signature import Signer
from convd.artifact.signing_keys import read_signing_key
from convd.commands.export_report import as_json as published_as_json
from convd.commands.export_report import show_evidence, show_facts, show_plan
from convd.commands.option_types import Labels, NetworkOption, OptionValue
from convd.commands.picture_options import given_description, picture_options
from convd.commands.sign import valid_days_option
from convd.export.errors import ExportError
from convd.export.options import ExportOptions, ExportPrecision
from convd.export.progress import TerminalProgress
from convd.export.publication import open_destination, plan, publish
from convd.export.sources.labelled_pictures import load_held_out, load_training_part
from convd.export.sources.loading import SourceRequest, load_source
from convd.models.errors import ModelsError


class PrecisionName(click.Choice[str]):
    """A precision; `fp16` is understood as float16."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        return super().convert("float16" if value == "fp16" else value, param, ctx)


def _renamed(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Refuse the old spelling of a flag, which another flag sounds like."""
    if value is not None:
        raise click.BadParameter(
            "write --quantization-data SPEC for what int8 sees, or --calibrate SPEC for the "
            "temperature",
            ctx,
            param,
        )


@click.command()
@click.argument("source", required=False)
@click.option("--name", required=True, help="Name under which the model is served.")
@click.option(
    "--repository",
    required=True,
    metavar="PLACE",
    help="Folder with the models, made if it does not exist; or s3://BUCKET/PREFIX, gs://, az://.",
)
@click.option("--arch", metavar="NAME", help="Architecture of convd, with --weights.")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Weights: .safetensors, .pt or .pth."
)
@click.option(
    "--data", metavar="SPEC", help="Data to evaluate on [default: what the checkpoint held out]."
)
@click.option(
    "--labels",
    type=Labels(),
    help="Class names: a,b,... or a file: one a line, CSV, or JSON such as id2label.",
)
@picture_options
@click.option(
    "--activation",
    type=click.Choice(["auto", "softmax", "sigmoid", "none"]),
    default="auto",
    show_default=True,
    help="What has still to be applied to the outputs: softmax where classes exclude each other, "
    "sigmoid where labels are independent or there is one output, none to probabilities.",
)
@click.option(
    "--weights-key",
    metavar="NAME",
    help="Which of several sets of weights in the file [default: averaged ones (EMA)].",
)
@click.option(
    "--recipe", metavar="WEIGHTS", help="Whose preprocessing torchvision or timm is to give."
)
@click.option(
    "--option",
    "options",
    type=NetworkOption(),
    multiple=True,
    metavar="NAME=VALUE",
    help="What weights do not carry, such as transform_input=true or pooling=max.",
)
@click.option("--output", metavar="NAME", help="Which output of an ONNX file that has several.")
@click.option(
    "--trust-code", is_flag=True, help="Read a file that can run code when it is read (.pt2)."
)
@click.option(
    "--precision",
    type=PrecisionName(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="float16 is for GPUs, int8 for CPUs.",
)
@click.option("--quantization-data", metavar="SPEC", help="What int8 sees to choose its scales.")
@click.option("--calibration-data", expose_value=False, hidden=True, callback=_renamed)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Largest drop of accuracy that float16 or int8 may cost, in percentage points.",
)
@click.option(
    "--features",
    is_flag=True,
    help="Serve what the last layer takes, too, and maps that explain answers.",
)
@click.option("--calibrate", metavar="SPEC", help="Fit a temperature on these held-out data.")
@click.option(
    "--sign",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="KEY",
    help="Sign with this private key (PEM, P-256 or Ed25519).",
)
@valid_days_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def command(
    source: str | None,
    name: str,
    repository: str,
    arch: str | None,
    weights: Path | None,
    data: str | None,
    weights_key: str | None,
    recipe: str | None,
    options: tuple[tuple[str, OptionValue], ...],
    output: str | None,
    trust_code: bool,
    precision: ExportPrecision,
    quantization_data: str | None,
    max_accuracy_drop: float,
    features: bool,
    calibrate: str | None,
    sign: Path | None,
    valid_days: int,
    dry_run: bool,
    as_json: bool,
    **description: object,
) -> None:
    """Publish a trained network as the next version of a model.

    SOURCE is a folder that 'convd train' wrote, file.py:build or package.module:build (a function
    that returns an nn.Module), a .pt2 file of torch.export, a .onnx file, a folder of transformers
    or timm (or hf:OWNER/NAME, timm:hf-hub:NAME), timm:NAME or torchvision:NAME[:WEIGHTS]; or it is
    left out, for --arch NAME --weights FILE.

    file.py:build and package.module:build run your code. A .pt2 file can run any code when it is
    read, so it needs --trust-code. Nothing else here runs code that comes with a network.

    The network becomes one ONNX graph from pictures to probabilities. It is published only if ONNX
    Runtime gives the network's own answers, on every execution provider of this machine.

    \b
    Examples:
      convd export runs/lenet --name digits --repository repository
      convd export net.py:build --labels cat,dog --resize 96x96 --mean 0.5 --std 0.5 \\
        --name pets --repository repository
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    request = SourceRequest(
        source,
        arch,
        weights,
        data,
        weights_key,
        recipe,
        dict(options),
        output,
        trust_code,
        given_description(**description),
    )
    try:
        check_model_name(name)
        models = open_destination(repository)
        with TerminalProgress(Console(stderr=True)) as progress:
            with progress.stage("reading the network"):
                trained = load_source(request)
                wanted = ExportOptions(
                    precision=precision,
                    quantization_data=load_training_part(quantization_data)
                    if quantization_data
                    else None,
                    max_accuracy_drop=max_accuracy_drop / 100,
                    calibration_data=load_held_out(calibrate, trained.labels)
                    if calibrate
                    else None,
                    features=features,
                    signer=Signer(read_signing_key(sign), valid_days) if sign else None,
                )
            if dry_run:
                rows = plan(trained, models, name, wanted, progress)
            else:
                if not as_json:
                    show_facts(console, trained.facts)
                published = publish(trained, models, name, wanted, progress)
    except (ExportError, ArtifactError, ModelsError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        # A full disk, or a folder that may not be written to.
        where = error.filename or repository
        raise click.ClickException(
            f"cannot write {where}: {error.strerror}; nothing was published"
        ) from error
    if as_json:
        click.echo(json.dumps(rows if dry_run else published_as_json(name, published)))
        return
    if dry_run:
        show_plan(console, rows)
        show_facts(console, trained.facts)
        console.print("nothing was done: this was a dry run")
        return
    console.print(f"published {name} version {published.version}: {published.place}")
    show_evidence(console, published.manifest)
    console.print(f"next: convd serve --repository {repository}")
