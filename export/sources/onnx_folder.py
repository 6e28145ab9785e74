"""What is known of an ONNX file: by its metadata, and by the files that optimum lays next to it."""

import json
from pathlib import Path
from typing import Any

from onnx import ModelProto

from convd.artifact.preprocessing import Preprocessing
from convd.export.errors import SourceError
from convd.export.graph.network_graph import ImageInput
from convd.export.sources.description import GivenDescription
from convd.export.sources.image_processor import read_image_processor
from convd.export.sources.onnx_metadata import notes_in_file
from convd.export.sources.onnx_notes import OnnxNotes, labels_in, origins_of, timm_settings
from convd.export.sources.transformers_folder import PROCESSOR, read_processor
from convd.export.sources.zoo import first_line
from convd.models.errors import LibraryError


def onnx_of_folder(source: str) -> Path | None:
    """The ONNX file of a folder that optimum wrote, which has no weights besides it.

    Args:
        source: The folder, perhaps with `hf:` before it.
    """
    folder = Path(source.removeprefix("hf:"))
    if not (folder / "config.json").is_file() or any(
        each for pattern in ("*.safetensors", "pytorch_model*.bin") for each in folder.glob(pattern)
    ):
        return None
    files = (folder / "model.onnx", folder / "onnx" / "model.onnx")
    return next((file for file in files if file.is_file()), None)


def notes_of_onnx(
    path: Path,
    model: ModelProto,
    taken: ImageInput,
    squeezed: Preprocessing | None,
    given: GivenDescription,
) -> OnnxNotes:
    """Read what a file says of itself, and of the rest what lies next to it.

    Args:
        path: The file.
        model: The model as it is in the file.
        taken: Its input.
        squeezed: The recipe that its input suggests; None where its size is dynamic.
        given: What the user says, which wins.

    Raises:
        LibraryError: Settings next to it are needed, and transformers is not installed.
        SourceError: Settings are needed that stand for a recipe that convd lacks.
    """
    needs_numbers = not taken.takes_pixels and None in (given.mean, given.std)
    is_settled = given.resize is not None and not needs_numbers
    notes = OnnxNotes(preprocessing=squeezed)
    for is_inside in (True, False):
        try:
            found = (
                notes_in_file(model, taken, squeezed)
                if is_inside
                else _notes_beside_file(path, taken)
            )
            notes = _filled(notes, found, squeezed)
        except (LibraryError, SourceError):
            if not is_settled:
                raise
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            if not is_settled:
                raise SourceError(
                    f"the settings in {path} or next to it cannot be read ({first_line(error)}): "
                    "give --resize, --mean and --std"
                ) from error
        if notes.normalization is not None:
            break
    return notes


def _filled(notes: OnnxNotes, others: OnnxNotes, squeezed: Preprocessing | None) -> OnnxNotes:
    """Add what is still unknown."""
    origins = {**others.origins, **notes.origins}
    has_recipe = notes.preprocessing not in (None, squeezed) or others.preprocessing is None
    return OnnxNotes(
        notes.labels or others.labels,
        notes.preprocessing if has_recipe else others.preprocessing,
        notes.normalization or others.normalization,
        origins,
        others.recipe,
        notes.is_multilabel or others.is_multilabel,
    )


def _notes_beside_file(path: Path, given: ImageInput) -> OnnxNotes:
    """Read `config.json` and `preprocessor_config.json`, as optimum writes them.

    They lie next to the file, or above a folder `onnx` that has it.
    """
    folder = path.parent
    if folder.name == "onnx" and not (folder / "config.json").is_file():
        folder = folder.parent
    config = _read_json(folder / "config.json")
    if not {"architecture", "architectures", "model_type"} & config.keys():
        return OnnxNotes()
    settings = {**config, **dict(config.get("pretrained_cfg") or {})}
    labels = labels_in(settings)
    recipe, normalization = timm_settings(settings, given)
    origins = origins_of("config.json", labels, recipe, normalization)
    code = None
    if normalization is None and (folder / PROCESSOR).is_file():
        processor = read_processor(folder)
        recipe, normalization = read_image_processor(processor.settings, given.channels)
        origins |= origins_of(PROCESSOR, None, recipe, normalization)
        code = processor.recipe
    is_multilabel = config.get("problem_type") == "multi_label_classification"
    return OnnxNotes(labels, recipe, normalization, origins, code, is_multilabel)


def _read_json(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it is missing or something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
