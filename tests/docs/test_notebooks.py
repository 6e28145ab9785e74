import re
from pathlib import Path

import pytest

from tests.docs import notebooks
from tests.support import free_ports


def test_the_first_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grpc_port, http_port = free_ports(2)
    (notebook,) = notebooks.NOTEBOOKS
    shown = notebooks.run(notebook, {18001: grpc_port, 18002: http_port})
    text = "".join(shown)
    right, of = map(int, re.findall(r"(\d+) of (\d+) held-out digits are right", text)[0])
    wrong = int(re.findall(r"(\d+) of \d+ held-out digits are read wrongly", text)[0])
    assert right > 0.9 * of
    assert right + wrong == of
    assert "the server gives the same answer: True" in text
    assert "the server ended with 0" in text
    # What the notebook shows to readers has the same lines, figures aside.
    kept = [
        "".join(cell["outputs"][0]["text"]) if cell["outputs"] else ""
        for cell in notebooks.read(notebook)["cells"]
        if cell["cell_type"] == "code"
    ]
    assert [re.sub(r"[\d.]+", "#", one) for one in kept] == [
        re.sub(r"[\d.]+", "#", one) for one in shown
    ]
