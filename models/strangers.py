"""Recognises files that are neither weights nor ONNX, and says how to bring them here."""

import pickletools
import zipfile
from pathlib import Path

_HEAD_BYTES = 512
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TORCHSCRIPT = (
    "is a TorchScript file: write torch.onnx.export(torch.jit.load(FILE), (example,), "
    "'model.onnx', dynamo=False, dynamic_axes={'x': {0: 'batch'}}, input_names=['x']) and export "
    "model.onnx"
)
_MODULE = (
    "is a pickled network, and reading it would run code: where its class is at hand, write "
    "torch.save(network.state_dict(), 'weights.pth') and give that with file.py:build --weights "
    "weights.pth"
)
_PICKLE = (
    "is a Python pickle, and reading it would run code: where it was written, load it, write "
    "torch.save(network.state_dict(), 'weights.pth') and give that with file.py:build --weights "
    "weights.pth"
)
_COLLECTIONS = ("collections ", "torch._utils ", "builtins ", "numpy")
_BY_SUFFIX = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    ".pb": "is a TensorFlow graph: python -m tf2onnx.convert --graphdef FILE --output model.onnx, "
    "and export model.onnx",
    ".mlmodel": "is a Core ML file: export the network that it was converted from",
    ".engine": "is a TensorRT engine for one kind of GPU: export the ONNX file that it comes from",
    ".plan": "is a TensorRT engine for one kind of GPU: export the ONNX file that it comes from",
    ".xml": "is OpenVINO's: export the ONNX file that it was converted from",
}


def recognise(path: Path) -> str | None:
    """Say what a file or folder is and which command brings it here.

    Args:
        path: Anything that exists.

    Returns:
        The rest of a sentence that begins with the path; None where it is nothing known.
    """
    if path.is_dir():
        return _recognise_folder(path)
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return "is empty: copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the file itself: git lfs pull"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")) and path.suffix.lower() != ".xml":
        return "is a web page, such as an error message: download the file again"
    if head.startswith(_HDF5):
        return (
            "is a Keras file (HDF5): python -m tf2onnx.convert --keras FILE --output model.onnx, "
            "and export model.onnx"
        )
    if head[4:8] == b"TFL3":
        return (
            "is a TensorFlow Lite file: python -m tf2onnx.convert --tflite FILE --output "
            "model.onnx, and export model.onnx"
        )
    if zipfile.is_zipfile(path):
        return _recognise_archive(path)
    if head.startswith(b"\x80") and _names_a_module(head):
        return _MODULE
    return _BY_SUFFIX.get(path.suffix.lower())


def _recognise_folder(path: Path) -> str | None:
    if (path / "saved_model.pb").is_file():
        return (
            "is a TensorFlow SavedModel: python -m tf2onnx.convert --saved-model FOLDER --output "
            "model.onnx, and export model.onnx"
        )
    if (path / "adapter_config.json").is_file():
        return (
            "is an adapter (PEFT) without its network: write "
            "model.merge_and_unload().save_pretrained(FOLDER) and export that folder"
        )
    if (path / "config.json").is_file():
        return (
            "has a config.json without model_type (transformers) or architecture (timm): give the "
            "folder that save_pretrained wrote"
        )
    return None


def _recognise_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
        if "constants.pkl" in names:
            return _TORCHSCRIPT
        if "config.json" in archive.namelist() and "model.weights.h5" in archive.namelist():
            return (
                "is a Keras file: python -m tf2onnx.convert --keras FILE --output model.onnx, and "
                "export model.onnx"
            )
        if "models/model.json" in names:
            return "is a program of torch.export: name it .pt2"
        if "data.pkl" in names:
            data = archive.read(archive.namelist()[names.index("data.pkl")])
            return _MODULE if _names_a_module(data) else None
    return None


def _names_a_module(data: bytes) -> bool:
    """Whether the object in a pickle is of a class of somebody's own; nothing of it is run."""
    words: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name in ("GLOBAL", "INST"):
                return not str(argument).startswith(_COLLECTIONS)
            if operation.name == "STACK_GLOBAL":
                return not " ".join(words[-2:]).startswith(_COLLECTIONS)
            if operation.name.startswith("EMPTY_") or operation.name == "MARK":
                return False
            if isinstance(argument, str):
                words.append(argument)
    # Cut off or damaged: its reader says so.
    except Exception:
        return False
    return False
