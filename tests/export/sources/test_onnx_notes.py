"""What an ONNX file's metadata and the files next to it say is taken, with its origin."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

from convd.artifact.bundle import Artifact
from convd.artifact.manifest import Manifest, Normalization
from convd.artifact.preprocessing import CenterCrop, Preprocessing, ResizeShorterSide, ResizeTo
from convd.commands.export import command
from tests.export.sources.test_onnx_forms import LABELS, with_zipmap
from tests.export.test_onnx_source import foreign_model

PIXELS_0_255 = Normalization(mean=(0,) * 3, std=(1 / 255,) * 3)
HALVES = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
NAMES = dict(enumerate(LABELS))


def export(model: onnx.ModelProto, file: Path, notes: Mapping[str, str], flags: str = "") -> Result:
    for key, value in notes.items():
        model.metadata_props.add(key=key, value=value)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    words = f"{file} --name net --repository {file.parent / 'r'} {flags}".split()
    return CliRunner().invoke(command, words)


def manifest_of(file: Path) -> Manifest:
    return Artifact.open(file.parent / "r" / "net" / "1").manifest


def facts_of(done: Result) -> dict[str, str]:
    """Where each fact of the summary comes from."""
    rows = [line for line in done.output.splitlines() if line.endswith("]") and "  [" in line]
    return {row[:16].strip(): row.rsplit("[", 1)[1].rstrip("]") for row in rows}


def test_a_file_of_custom_vision_needs_no_flags(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    notes = {
        "Image.BitmapPixelFormat": "Bgr8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    done = export(with_zipmap(), file, notes)
    assert done.exit_code == 0, done.output
    manifest = manifest_of(file)
    assert manifest.labels == LABELS
    assert manifest.normalization == PIXELS_0_255
    assert manifest.preprocessing == Preprocessing(
        resize=ResizeTo(height=16, width=16), interpolation="bicubic", channel_order="BGR"
    )
    facts = facts_of(done)
    assert facts["labels"] == facts["resize"] == "the file"
    assert facts["mean"] == facts["std"] == "Image.NominalPixelRange of the file"
    assert facts["channel order"] == "Image.BitmapPixelFormat of the file"
    assert facts["interpolation"] == "Custom Vision's own code"


@pytest.mark.parametrize(
    ("pixel_range", "normalization"),
    [
        ("NominalRange_0_255", PIXELS_0_255),
        ("Normalized_0_1", Normalization(mean=(0,) * 3, std=(1,) * 3)),
        ("Normalized_1_1", HALVES),
    ],
)
def test_each_range_of_pixels_is_read(
    pixel_range: str, normalization: Normalization, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    notes = {"Image.NominalPixelRange": pixel_range, "classes": json.dumps(LABELS)}
    done = export(foreign_model(), file, notes)
    assert done.exit_code == 0, done.output
    manifest = manifest_of(file)
    assert manifest.normalization == normalization
    assert manifest.preprocessing == Preprocessing(resize=ResizeTo(height=16, width=16))


def test_a_range_that_nobody_defines_exactly_is_asked_for(tmp_path: Path) -> None:
    notes = {"Image.NominalPixelRange": "NominalRange_16_235"}
    done = export(with_zipmap(), tmp_path / "model.onnx", notes)
    assert done.exit_code == 1
    assert "give --mean and --std" in done.output


def test_flags_win_over_metadata(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    notes = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    flags = "--mean 0.5 --std 0.5 --channel-order RGB --interpolation box"
    done = export(with_zipmap(), file, notes, flags)
    assert done.exit_code == 0, done.output
    manifest = manifest_of(file)
    assert manifest.normalization == HALVES
    assert manifest.preprocessing.channel_order == "RGB"
    assert manifest.preprocessing.interpolation == "box"
    assert facts_of(done)["mean"] == "--mean"


TIMM = {
    "input_size": [3, 16, 16],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "crop_pct": 0.8,
    "crop_mode": "center",
    "interpolation": "lanczos",
}
TIMM_RECIPE = Preprocessing(
    resize=ResizeShorterSide(size=20),
    center_crop=CenterCrop(height=16, width=16),
    interpolation="lanczos",
    channel_order="RGB",
)


@pytest.mark.parametrize(
    "notes",
    [
        {key: json.dumps(value) for key, value in TIMM.items()},
        {key: str(value) for key, value in TIMM.items()},
        {"pretrained_cfg": json.dumps(TIMM)},
        {"config": json.dumps(TIMM)},
    ],
    ids=["one by one, as JSON", "one by one, as Python", "pretrained_cfg", "config"],
)
def test_timms_settings_in_metadata_are_read(notes: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    done = export(foreign_model(), file, {**notes, "label_names": json.dumps(LABELS)})
    assert done.exit_code == 0, done.output
    manifest = manifest_of(file)
    assert manifest.labels == LABELS
    assert manifest.normalization == HALVES
    assert manifest.preprocessing == TIMM_RECIPE
    assert set(facts_of(done).values()) >= {"the file's metadata"}


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 16, "width": 16},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def test_a_processors_settings_in_metadata_are_read(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    notes = {"preprocessor_config": json.dumps(PROCESSOR), "id2label": json.dumps(NAMES)}
    done = export(foreign_model(), file, notes)
    assert done.exit_code == 0, done.output
    assert manifest_of(file).normalization == HALVES
    assert manifest_of(file).preprocessing.interpolation == "bicubic"


def lay_beside(folder: Path, config: dict[str, Any], processor: dict[str, Any] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_a_folder_of_optimum_says_everything_itself(place: str, tmp_path: Path) -> None:
    lay_beside(tmp_path, {"model_type": "vit", "id2label": NAMES}, PROCESSOR)
    file = tmp_path / place
    done = export(foreign_model(), file, {})
    assert done.exit_code == 0, done.output
    manifest = manifest_of(file)
    assert manifest.labels == LABELS
    assert manifest.normalization == HALVES
    assert manifest.preprocessing == Preprocessing(
        resize=ResizeTo(height=16, width=16), interpolation="bicubic", channel_order="RGB"
    )
    facts = facts_of(done)
    assert facts["labels"] == "config.json"
    assert facts["mean"] == facts["resize"] == facts["interpolation"] == "preprocessor_config.json"


@pytest.mark.parametrize("spelling", ["{}", "hf:{}"])
def test_the_folder_itself_can_be_named(spelling: str, tmp_path: Path) -> None:
    lay_beside(tmp_path, {"model_type": "vit", "id2label": NAMES}, PROCESSOR)
    onnx.save(foreign_model(), tmp_path / "model.onnx")
    words = [spelling.format(tmp_path), "--name", "net", "--repository", str(tmp_path / "r")]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    assert manifest_of(tmp_path / "model.onnx").labels == LABELS


def test_timms_config_beside_the_file_is_read(tmp_path: Path) -> None:
    config = {"architecture": "resnet10t", "label_names": LABELS, "pretrained_cfg": TIMM}
    lay_beside(tmp_path, config, None)
    done = export(foreign_model(), tmp_path / "model.onnx", {})
    assert done.exit_code == 0, done.output
    manifest = manifest_of(tmp_path / "model.onnx")
    assert (manifest.labels, manifest.preprocessing) == (LABELS, TIMM_RECIPE)


def test_flags_settle_what_a_processor_does_in_a_way_that_convd_lacks(tmp_path: Path) -> None:
    padding = {**PROCESSOR, "image_processor_type": "DonutImageProcessor", "do_pad": True}
    lay_beside(tmp_path, {"model_type": "vit", "id2label": NAMES}, padding)
    file = tmp_path / "model.onnx"
    done = export(foreign_model(), file, {}, "--labels a,b,c,d,e")
    assert done.exit_code == 1
    assert "in a way that convd lacks" in done.output
    done = export(
        foreign_model(), file, {}, "--labels a,b,c,d,e --resize 16x16 --mean 0.5 --std 0.5"
    )
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "notes",
    [
        {"mean": "nothing", "std": "[1, 2]"},
        {"mean": "[[", "crop_pct": "0.8", "input_size": "3"},
        {"crop_pct": "0", "mean": "0.5", "std": "0.5"},
        {"preprocessor_config": json.dumps({**PROCESSOR, "size": {"height": "x", "width": 1}})},
        {"id2label": json.dumps({"a": "b"})},
    ],
)
def test_metadata_that_make_no_sense_are_one_sentence(
    notes: dict[str, str], tmp_path: Path
) -> None:
    done = export(foreign_model(), tmp_path / "model.onnx", notes, f"--labels {','.join(LABELS)}")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "--mean and --std" in done.output


def test_transformers_is_needed_only_where_flags_do_not_settle_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_beside(tmp_path, {"model_type": "vit", "id2label": NAMES}, PROCESSOR)
    monkeypatch.setitem(sys.modules, "transformers", None)
    file = tmp_path / "model.onnx"
    done = export(foreign_model(), file, {})
    assert done.exit_code == 1
    assert "transformers is not installed: pip install transformers" in done.output
    done = export(
        foreign_model(), file, {}, "--resize 16x16 --mean 0.5 --std 0.5 --labels a,b,c,d,e"
    )
    assert done.exit_code == 0, done.output
