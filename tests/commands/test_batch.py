"""Bulk classification: every kind of input, broken pictures, kill -9, and the server's answers."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convd.commands.batch_inputs import Picture, StoredFile, cut, read_files
from convd.commands.batch_rows import SCHEMA, BatchClassifier
from testbed.drawn_pictures import SHAPES, draw
from tests.object_storage import storage_server
from tests.support import running_server, wait_until
from tests.tiny_artifact import publish_tiny

BROKEN = 8
WHOLE = 192


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    publish_tiny(root)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for number in range(WHOLE):
        draw(SHAPES[number % 4], number).save(root / f"{number:03}.png")
    for number in range(BROKEN):
        whole = (root / f"{number:03}.png").read_bytes()
        (root / f"broken-{number}.png").write_bytes(whole[: 20 + 300 * number])
    return root


def batch(source: Path | str, model: Path, output: Path, *flags: object) -> subprocess.Popen[str]:
    words = ["batch", source, "--model", model, "--output", output, *flags]
    command = [sys.executable, "-m", "convd", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(output: Path) -> list[dict[str, Any]]:
    """All rows but for what they took, in order."""
    parts = [pq.read_table(part) for part in sorted(output.glob("part-*.parquet"))]
    return pa.concat_tables(parts).drop_columns("seconds").to_pylist()  # type: ignore[no-any-return]


def finished(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    return text


def test_a_killed_run_goes_on_and_equals_an_undisturbed_one_and_the_server(
    repository: Path, pictures: Path, tmp_path: Path
) -> None:
    flags = ("--pictures-per-part", 2, "--top-k", 0)
    text = finished(batch(pictures, repository / "pets", tmp_path / "whole", *flags))
    assert f"200 pictures, {BROKEN} with an error" in text
    killed = batch(pictures, repository / "pets", tmp_path / "killed", *flags, "--threads", 1)
    wait_until(lambda: len(list((tmp_path / "killed").glob("part-*"))) >= 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = {part: part.stat().st_mtime_ns for part in (tmp_path / "killed").glob("part-*")}
    assert len(done) < 100
    text = finished(batch(pictures, repository / "pets", tmp_path / "killed", *flags, "--json"))
    assert json.loads(text.splitlines()[-1])["pictures"] == 200 - 2 * len(done)
    assert {part: part.stat().st_mtime_ns for part in done} == done
    expected = rows(tmp_path / "whole")
    assert rows(tmp_path / "killed") == expected
    assert len({row["path"] for row in expected}) == 200
    with running_server(repository) as server:
        for row in expected:
            answer = (
                server.classify((pictures / row["path"]).read_bytes(), model="pets")
                if (row["error"] is None)
                else None
            )
            if answer is not None:
                classes = answer.results[0].classification.classes
                assert [one.probability for one in classes] == row["probabilities"]
    broken = [row for row in expected if row["error"] is not None]
    assert [row["path"] for row in broken] == [f"broken-{number}.png" for number in range(BROKEN)]


def test_shards_parquet_and_lists_give_the_answers_of_the_folder(
    repository: Path, pictures: Path, tmp_path: Path
) -> None:
    files = sorted(pictures.iterdir())[:30]
    for number in range(2):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as shard:
            for file in files[15 * number : 15 * number + 15]:
                shard.add(file, file.name)
                about = tarfile.TarInfo(f"{file.stem}.json")
                shard.addfile(about, io.BytesIO(b""))
    data = [file.read_bytes() for file in files]
    paths = list(map(str, files))
    pq.write_table(
        pa.table({"bytes": data, "path": paths}), tmp_path / "bytes.parquet", row_group_size=7
    )
    pq.write_table(pa.table({"path": paths}), tmp_path / "paths.parquet")
    structures = [{"bytes": one, "path": path} for one, path in zip(data, paths, strict=True)]
    pq.write_table(pa.table({"image": structures}), tmp_path / "images.parquet")
    (tmp_path / "list.txt").write_text("\n".join(paths))
    (tmp_path / "shards").mkdir()
    for number in range(2):
        (tmp_path / f"shard-{number}.tar").rename(tmp_path / "shards" / f"shard-{number}.tar")
    answers = []
    names = ("shards", "bytes.parquet", "paths.parquet", "images.parquet", "list.txt")
    for name in names:
        output = tmp_path / f"out-{name}"
        finished(batch(tmp_path / name, repository / "pets", output))
        answers.append([(row["probabilities"], row["error"]) for row in rows(output)])
    assert len(answers[0]) == 30
    assert all(one == answers[0] for one in answers), names
    refused = batch(tmp_path / "list.txt", repository / "pets", tmp_path / "out-shards")
    text, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "another model, input or --top-k" in text


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("half.tar", "tar", "half.tar is damaged"),
        ("half.parquet", "parquet", "cannot be read as Parquet"),
        ("absent", "", "does not exist: give a folder"),
        ("notes.md", "text", "holds no pictures"),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_no_part(
    repository: Path, pictures: Path, tmp_path: Path, name: str, content: str, reason: str
) -> None:
    source = tmp_path / name
    if content == "tar":
        with tarfile.open(source, "w") as shard:
            shard.add(pictures / "000.png", "000.png")
            shard.add(pictures / "001.png", "001.png")
        source.write_bytes(source.read_bytes()[:25_000])
    elif content == "parquet":
        source.write_bytes(b"PAR1 and not much more")
    elif content:
        source.write_text(content)
    refused = batch(source, repository / "pets", tmp_path / "out")
    text, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert reason in " ".join(text.split())
    assert "Traceback" not in text
    assert not list(tmp_path.glob("out/*.parquet"))


def test_a_damaged_shard_ends_the_run_behind_the_parts_before_it(
    repository: Path, pictures: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("a", "b"):
        with tarfile.open(shards / f"{name}.tar", "w") as shard:
            for file in sorted(pictures.iterdir())[:3]:
                shard.add(file, file.name)
    damaged = shards / "b.tar"
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    refused = batch(shards, repository / "pets", tmp_path / "out")
    text, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "b.tar is damaged" in " ".join(text.split())
    assert [part.name for part in tmp_path.glob("out/*.parquet")] == ["part-000000.parquet"]
    assert len(rows(tmp_path / "out")) == 3


def test_files_of_any_place_are_read_in_order_and_a_missing_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "a[1]*.png").write_bytes(b"local")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/far[2]?.png", b"far")
    places: list[bytes | StoredFile] = [
        b"bytes",
        StoredFile(fsspec.filesystem("file"), str(tmp_path / "a[1]*.png")),
        StoredFile(memory, "/far[2]?.png"),
        StoredFile(memory, "/absent.png"),
        StoredFile(fsspec.filesystem("file"), str(tmp_path)),
        b"again",
    ]
    given = [Picture(str(number), place) for number, place in enumerate(places)]
    read = read_files(pickle.loads(pickle.dumps(given)))  # noqa: S301
    missing, folder = "there is no file /absent.png", f"{tmp_path} is a folder, not a file"
    assert read == [b"bytes", b"local", b"far", missing, folder, b"again"]


def test_names_that_are_not_utf8_are_read_and_shown(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / odd).write_bytes(b"content")
    (tmp_path / "list.txt").write_bytes(os.fsencode(tmp_path / "photos" / odd))
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        shard.add(tmp_path / "photos" / odd, odd)
    for source in ("photos", "list.txt", "shard.tar"):
        (part,) = cut(str(tmp_path / source), 10)
        pictures = list(part.pictures())
        assert pictures[0].path.endswith("caf\ufffd.png")
        assert read_files(pictures) == [b"content"]


def test_a_batch_without_a_usable_picture_is_all_errors(repository: Path) -> None:
    classify = BatchClassifier(str(repository / "pets"), top_k=2, provider="cpu")
    with classify.model:
        table = classify(["a", "b"], ["no such file", b"not a picture"])
        assert table.schema == SCHEMA
        assert table["probabilities"].to_pylist() == [None, None]
        first, second = table["error"].to_pylist()
        assert first == "no such file"
        assert second.startswith("the bytes are not an image")
        assert classify([], []).num_rows == 0


def test_ray_is_asked_for_by_name_and_missed_by_name(
    repository: Path, pictures: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from convd.commands.batch import command; command(sys.argv[1:])"
    )
    words = [pictures, "--model", repository / "pets", "--output", tmp_path / "out"]
    for flags, exit_code, text in (
        ((), 0, "200 pictures"),
        (("--ray", "auto"), 1, "deploy/ray/requirements.txt"),
    ):
        command = [sys.executable, "-c", code, *map(str, [*words, *flags])]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (finished.returncode, text in finished.stdout + finished.stderr) == (exit_code, True)


def test_pictures_in_object_storage_give_the_same_answers(
    repository: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage_server(monkeypatch) as server:
        storage = server.storage()
        (tmp_path / "few").mkdir()
        for file in sorted(pictures.iterdir())[:5]:
            storage.put(file, f"photos/{file.name}")
            (tmp_path / "few" / file.name).write_bytes(file.read_bytes())
        finished(batch(f"{server.url}/photos", repository / "pets", tmp_path / "remote"))
    finished(batch(tmp_path / "few", repository / "pets", tmp_path / "local"))
    assert rows(tmp_path / "remote") == rows(tmp_path / "local")
    assert len(rows(tmp_path / "local")) == 5
