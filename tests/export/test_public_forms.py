"""The ten commonest public forms of a trained network, end to end: exported, served, asked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from convd.artifact.bundle import Artifact
from convd.commands.export import command
from tests.export.networks import CLASSES
from tests.export.public_forms import PUBLIC_FORMS, Answer
from tests.support import Client, png, running_server


class Served:
    """Each form as far as it came, and a server of those that were published."""

    def __init__(self, root: Path) -> None:
        self.repository = root / "repository"
        self.said: dict[str, tuple[int, str]] = {}
        self.originals: dict[str, Answer] = {}
        for name, form in PUBLIC_FORMS.items():
            folder = root / name
            folder.mkdir()
            with contextlib.chdir(folder):
                self.originals[name] = form.make()
                words = [*form.words(), "--name", name, "--repository", str(self.repository)]
                done = CliRunner().invoke(command, words)
                self.said[name] = done.exit_code, done.output
        self.client: Client | None = None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    forms = Served(tmp_path_factory.mktemp("forms"))
    with running_server(forms.repository) as forms.client:
        yield forms


def pictures(size: int) -> list[Image.Image]:
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    noise[2:4] //= 8
    noise[4:] |= 192
    return [Image.fromarray(one) for one in noise]


@pytest.mark.parametrize("name", PUBLIC_FORMS)
def test_what_is_served_answers_as_the_original(name: str, served: Served) -> None:
    code, said = served.said[name]
    assert code == 0, said
    assert served.client is not None
    manifest = Artifact.open(served.repository / name / "1").manifest
    assert manifest.labels == CLASSES
    rows = []
    # Files have no recipe of their own but their size; a library's recipe takes any.
    for picture in pictures(170 if manifest.preprocessing.center_crop else 16):
        (result,) = served.client.classify(png(picture), model=name).results
        found = {each.label: each.probability for each in result.classification.classes}
        wanted = served.originals[name](picture)
        assert np.abs([found[label] for label in CLASSES] - wanted).max() < 1e-5
        rows.append(wanted)
    assert np.ptp(rows, axis=0).max() > 0.02
