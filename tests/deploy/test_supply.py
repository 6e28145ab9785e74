"""The images are made of the versions that were tested, by hash, and nothing else."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from deploy.containers.dependencies import requirements, with_own_wheels
from deploy.supply.closure import closure, pinned
from deploy.supply.lock import EXTRAS, FOLDER, LOCKS
from deploy.supply.sbom import IMAGES, locked
from tests.support import ROOT

PINS = pinned(ROOT / "constraints.txt")
# PyTorch from PyPI brings them; a CPU build does not.
CUDA = re.compile(r"nvidia-|cuda-|triton$")


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("file", LOCKS)
def test_every_version_is_the_tested_one_and_every_file_has_a_hash(file: str) -> None:
    text = (FOLDER / file).read_text()
    entries = re.split(r"(?m)^(?=\S+==)", text)[1:]
    for entry in entries:
        name, version = re.match(r"(\S+)==(\S+)", entry).groups()  # type: ignore[union-attr]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
        if not CUDA.match(canonicalize_name(name)):
            assert PINS[canonicalize_name(name)] == version, f"{name}: run make lock"
    assert "://" not in text, "no address of an index"


def test_whatever_the_extras_bring_along_is_locked() -> None:
    missing = closure(requirements(*EXTRAS), PINS) - set(pinned(FOLDER / "constraints.txt"))
    assert missing == set(), "run make lock"


def test_wheels_that_the_builder_puts_there_are_taken_by_their_own_hash(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").write_bytes(b"wheel")
    before = (FOLDER / "constraints.txt").read_text()
    after = with_own_wheels(before, tmp_path)
    entry = re.compile(r"(?m)^torch==(?:.*\\\n)*.*\n")
    added = f"--hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}"
    assert entry.findall(after) == [f"torch=={PINS['torch']} {added}\n"]
    assert entry.sub("", after) == entry.sub("", before)
    assert with_own_wheels(before, tmp_path / "nothing") == before


@pytest.mark.parametrize("image", IMAGES)
def test_a_bill_of_materials_lists_what_the_image_has(image: str) -> None:
    needed = closure(requirements(*IMAGES[image]), PINS)
    listed = re.findall(r"(?m)^(\S+)==", locked(needed))
    assert {canonicalize_name(name) for name in listed} == needed


def test_images_are_built_with_hashes_only() -> None:
    steps = re.split(r"\n(?=[A-Z])", (ROOT / "Dockerfile").read_text())
    for step in steps:
        for command in re.findall(r"pip (?:--python \S+ )?install (.*?)(?:&&|$)", step, re.DOTALL):
            assert "--require-hashes" in command or "--no-index" in command, command


def test_what_watches_the_server_has_no_rights_and_no_well_known_password() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    grafana = services["grafana"]["environment"]
    assert grafana["GF_SECURITY_ADMIN_PASSWORD__FILE"].startswith("/secrets/")
    assert "GF_AUTH_ANONYMOUS_ENABLED" not in grafana
    assert "latest" not in json.dumps(services)
