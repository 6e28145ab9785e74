"""What the console shows of a model, as JSON."""

from pathlib import PurePosixPath

from markdown_it import MarkdownIt

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.golden import GOLDEN_DIRECTORY
from convd.service.lifecycle.catalog import Catalog, VersionStatus

MODEL_CARD = PurePosixPath("MODEL_CARD.md")

_PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_MOST_EXAMPLES = 8


def picture_type(file: str) -> str | None:
    """Media type of a picture that a browser can show; None for any other file."""
    return _PICTURE_TYPES.get(PurePosixPath(file).suffix)


def describe_status(status: VersionStatus, catalog: Catalog) -> dict[str, object]:
    """One line of the list of models."""
    labels = catalog.labels(status.name)
    line: dict[str, object] = {
        "name": status.name,
        "version": status.version,
        "version_labels": sorted(one for one in labels if labels[one] == status.version),
        "state": status.state.value,
        "reason": status.reason or catalog.problem(status.name),
    }
    servable = status.servable
    if servable is not None:
        manifest = servable.manifest
        line |= {
            "provider": servable.session.provider.name,
            "precision": servable.session.provider.computes_in(manifest.precision),
            "provider_refusals": [str(refusal) for refusal in servable.refusals],
            "golden_difference": servable.golden_difference,
            "classes": len(manifest.labels),
            "labels": manifest.labels[:_MOST_EXAMPLES],
            "accuracy": manifest.accuracy.model_dump() if manifest.accuracy else None,
            "input_shape": manifest.preprocessing.output_shape,
        }
    return line


def describe_version(name: str, version: int, artifact: Artifact) -> dict[str, object]:
    """All about one version: its card as HTML, its labels, and images to try."""
    manifest = artifact.manifest
    files = f"api/models/{name}/{version}/files/"
    golden = [
        file
        for file in sorted(manifest.files)
        if PurePosixPath(file).parent == GOLDEN_DIRECTORY and picture_type(file)
    ]
    return {
        "labels": manifest.labels,
        "card_html": _card(artifact, files),
        "examples": [files + file for file in golden[:_MOST_EXAMPLES]],
    }


def _card(artifact: Artifact, files: str) -> str:
    """The model card as HTML; raw HTML in it is shown, never obeyed."""
    try:
        source = artifact.read(MODEL_CARD).decode()
    except (ArtifactError, UnicodeDecodeError):
        return ""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(source)
    for token in tokens:
        # A style in the page itself is what the content security policy forbids.
        alignment = token.attrs.pop("style", None)
        if alignment is not None:
            token.attrSet("class", str(alignment).replace("text-align:", "align-"))
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", files + str(child.attrGet("src")))
            elif child.type == "link_open":
                child.attrSet("rel", "noopener noreferrer")
                child.attrSet("target", "_blank")
    return str(markdown.renderer.render(tokens, markdown.options, {}))
