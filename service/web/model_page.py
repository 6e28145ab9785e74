"""What the console shows of a model: its entry in the list, and its page with the card."""

from dataclasses import asdict
from pathlib import PurePosixPath

from markdown_it import MarkdownIt

from convd.artifact.bundle import Artifact
from convd.artifact.errors import ArtifactError
from convd.artifact.golden import GOLDEN_DIRECTORY
from convd.service.lifecycle.description import VersionDescription

MODEL_CARD = PurePosixPath("MODEL_CARD.md")

_PICTURE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_MAX_EXAMPLES = 8


def picture_type(file: str) -> str | None:
    """Media type of a picture that browsers can show; None for other files."""
    return _PICTURE_TYPES.get(PurePosixPath(file).suffix)


def list_entry(description: VersionDescription) -> dict[str, object]:
    """Make a version's entry in the list of models; facts of loaded versions may be absent."""
    entry = asdict(description) | {"state": description.state.value}
    del entry["loaded"]
    loaded = description.loaded
    if loaded is not None:
        entry |= asdict(loaded) | {
            "accuracy": loaded.accuracy.model_dump() if loaded.accuracy else None,
            "classes": len(loaded.labels),
            "labels": loaded.labels[:_MAX_EXAMPLES],
        }
    return entry


def version_page(name: str, version: int, artifact: Artifact) -> dict[str, object]:
    """Make the page of one version: its labels, its card as HTML, and example images."""
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
        "examples": [files + file for file in golden[:_MAX_EXAMPLES]],
    }


def _card(artifact: Artifact, files: str) -> str:
    """Render the model card as HTML; raw HTML in it is shown as text."""
    try:
        source = artifact.read(MODEL_CARD).decode()
    except (ArtifactError, UnicodeDecodeError):
        return ""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(source)
    for token in tokens:
        # The content security policy forbids inline styles.
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
