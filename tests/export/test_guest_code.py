"""The user's own code is imported as a guest: it meets its own modules and changes nothing."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from convd.commands.export import command
from convd.export.errors import SourceError
from convd.export.sources.python_callable import build_network
from testbed.server import environment
from tests.support import png, running_server

ALEXNET = """
import torch
from torch import nn
from utils import CLASSES


class AlexNet(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.features = nn.Conv2d(3, 8, 3)
        self.classifier = nn.Linear(8, CLASSES)

    def forward(self, x):
        return 20 * self.classifier(self.features(x).relu().mean(dim=(2, 3)))


def build():
    return AlexNet().eval()
"""
NET = "from models.alexnet import AlexNet\n\n\ndef build():\n    return AlexNet().eval()\n"
FLAGS = "--labels a,b,c,d --mean 0 --std 1 --resize 32x32"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A research project with packages of the names that convd's rooms have."""
    root = tmp_path / "project"
    for package in ("models", "export", "service", "runtime", "artifact"):
        (root / package).mkdir(parents=True)
    (root / "export" / "__init__.py").write_text("NAME = 'theirs'\n")
    (root / "models" / "alexnet.py").write_text(ALEXNET)
    (root / "utils.py").write_text("CLASSES = 4\n")
    (root / "net.py").write_text(NET)
    return root


def expected(pictures: list[Image.Image]) -> NDArray[np.float32]:
    scope: dict[str, Any] = {"__name__": "reference"}
    exec(ALEXNET.replace("from utils import CLASSES", "CLASSES = 4"), scope)  # noqa: S102
    network = scope["build"]()
    pixels = torch.from_numpy(np.stack([np.array(one) for one in pictures]))
    with torch.inference_mode():
        answers = network(pixels.permute(0, 3, 1, 2) / 255).softmax(dim=1)
    probabilities: NDArray[np.float32] = answers.numpy()
    return probabilities


@pytest.mark.parametrize("packages", ["with __init__.py", "without"])
def test_the_users_network_is_served_and_not_one_of_the_same_name(
    packages: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if packages != "without":
        (project / "models" / "__init__.py").touch()
    repository = tmp_path / "repository"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder, source, name in (
        (project, "net.py:build", "file"),
        (project, "models.alexnet:build", "module"),
        (elsewhere, "../project/net.py:build", "path"),
    ):
        monkeypatch.chdir(folder)
        words = f"{source} --name {name} --repository {repository} {FLAGS}".split()
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0, done.output
    flags = f"-m convd export net.py:build --name path-variable --repository {repository} {FLAGS}"
    script = subprocess.run(
        [sys.executable, *flags.split()],
        cwd=project,
        env=environment() | {"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr

    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    noise[4:] //= 4
    pictures = [Image.fromarray(one) for one in noise]
    wanted = expected(pictures)
    with running_server(repository) as client:
        for model in ("file", "module", "path", "path-variable"):
            results = client.classify(*map(png, pictures), model=model).results
            found = np.zeros_like(wanted)
            for row, result in enumerate(results):
                for one in result.classification.classes:
                    found[row, one.index] = one.probability
            assert np.abs(found - wanted).max() < 1e-5


def test_two_projects_in_one_process_each_get_their_own_modules(tmp_path: Path) -> None:
    for name, size in (("first", 3), ("second", 5)):
        (tmp_path / name / "parts").mkdir(parents=True)
        (tmp_path / name / "parts" / "size.py").write_text(f"SIZE = {size}\n")
        (tmp_path / name / "net.py").write_text(
            "from torch import nn\nfrom parts.size import SIZE\n"
            "def build():\n    return nn.Linear(2, SIZE)\n"
        )
    for name, size in (("first", 3), ("second", 5), ("first", 3)):
        network = build_network(f"{tmp_path / name / 'net.py'}:build")
        assert network(torch.zeros(1, 2)).shape == (1, size)


def test_a_file_of_a_package_may_import_relatively(tmp_path: Path) -> None:
    package = tmp_path / "project" / "nets"
    package.mkdir(parents=True)
    (package / "size.py").write_text("SIZE = 3\n")
    (package / "net.py").write_text(
        "from torch import nn\nfrom .size import SIZE\n"
        "def build():\n    return nn.Linear(2, SIZE)\n"
    )
    for init in (False, True):
        if init:
            (package / "__init__.py").touch()
        assert build_network(f"{package / 'net.py'}:build")(torch.zeros(1, 2)).shape == (1, 3)


@pytest.mark.parametrize("name", ["onnx", "random", "calendar"])
def test_a_file_named_like_a_library_does_not_take_its_place(name: str, tmp_path: Path) -> None:
    library = __import__(name)
    file = tmp_path / f"{name}.py"
    file.write_text("from torch import nn\ndef build():\n    return nn.Linear(2, 3)\n")
    assert build_network(f"{file}:build")(torch.zeros(1, 2)).shape == (1, 3)
    assert sys.modules[name] is library
    assert __import__(name) is library


def test_what_the_code_changes_for_the_process_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "net.py").write_text(
        "import os, sys, torch\nfrom torch import nn\nos.chdir('inner')\nprint('hello')\n"
        "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\n"
        "def build():\n    return nn.Linear(2, 3)\n"
    )
    build_network("net.py:build")
    assert Path.cwd() == tmp_path
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert capsys.readouterr().out == ""


ARGPARSE = (
    "import argparse\nparser = argparse.ArgumentParser()\n"
    "parser.add_argument('--epochs', default=3)\n"
)
TRAINS = (
    "import torch\nlayer = torch.nn.Linear(2, 3)\n"
    "optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)\n"
    "layer(torch.zeros(1, 2)).sum().backward()\noptimizer.step()\n"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (ARGPARSE + "parser.parse_args()", r"net\.py reads the command line when it is imported"),
        (ARGPARSE + "try:\n    parser.parse_args()\nexcept Exception:\n    pass", "command line"),
        ("import sys\nsys.exit(0)", r"net\.py ends the program \(status 0\) when it is imported"),
        ("raise SystemExit('no GPU')", r"ends the program \(status no GPU\)"),
        ("input('which net? ')", r"waits for input when it is imported"),
        ("import sys\nsys.stdin.read()", "waits for input"),
        (TRAINS, r"trains \(SGD\.step\) when it is imported: .*__main__"),
        ("import nowhere_to_be_found", "No module named 'nowhere_to_be_found'"),
        ("import onnx.nothing_like_it", "onnx is an installed library, loaded already"),
        ("def build(:", "SyntaxError"),
        ("def other():\n    pass", r"has no 'build': it has other"),
        ("def build(size):\n    pass", "give a function that needs no arguments"),
        (
            "def build():\n    open('weights.pth')",
            "relative paths start from the folder where convd runs",
        ),
        (ARGPARSE + "build = parser.parse_args", r"net\.py:build reads the command line"),
        ("def build():\n    return 3", r"gives a int"),
    ],
)
def test_code_that_cannot_be_imported_is_refused_with_a_sentence(
    code: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "net.py"
    file.write_text(code + "\n")
    argv, stdin = sys.argv, sys.stdin
    with pytest.raises(SourceError, match=message):
        build_network(f"{file}:build")
    assert sys.argv is argv
    assert sys.stdin is stdin


def test_a_script_guarded_by_main_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "import argparse\nfrom torch import nn\ndef build():\n    return nn.Linear(2, 3)\n"
        'if __name__ == "__main__":\n    argparse.ArgumentParser().parse_args()\n'
    )
    assert isinstance(build_network(f"{file}:build"), torch.nn.Linear)
