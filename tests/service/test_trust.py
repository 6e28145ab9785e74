"""A server trusts its repository no further than its own folder and its signatures reach."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import onnx
from google.protobuf.message import Message
from onnx import TensorProto

from convd.artifact.bundle import checksums
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from convd.protos.inference import grpc_service_pb2 as v2
from convd.protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from testbed.server import ServerProcess, http_get, launched
from tests.artifact.signing import KEY, STRANGER, public_pem, sign_version
from tests.support import rewrite_manifest, wait_until
from tests.tiny_artifact import publish_tiny

PORTS = re.compile(r"gRPC on \S+:(?P<grpc>\d+); .*http://\S+:(?P<http>\d+)")
CANARY = "canary-4711"
SECRET = f"{CANARY}:x:0:0:{CANARY}:/root:/bin/bash\n"


class Attack(NamedTuple):
    """Something done to a model's folder, and why the server then refuses the model."""

    spoil: Callable[[Path], None]
    reason: str


def linked(file: str, target: str = "../../secret") -> Callable[[Path], None]:
    """A link in the place of a file; the target is relative to the model's folder."""

    def spoil(model: Path) -> None:
        (model / file).unlink(missing_ok=True)
        (model / file).symlink_to(target if target.startswith("/") else model / target)

    return spoil


def pipe(file: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / file).unlink(missing_ok=True)
        os.mkfifo(model / file)

    return spoil


def folder(file: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / file).unlink(missing_ok=True)
        (model / file).mkdir()

    return spoil


def sparse(file: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / file).touch()
        os.truncate(model / file, 2**40)

    return spoil


def content(file: str, text: str) -> Callable[[Path], None]:
    def spoil(model: Path) -> None:
        (model / file).write_text(text)

    return spoil


def with_checksums(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A change after which all checksums are in order again."""

    def spoil(model: Path) -> None:
        change(model)
        files = checksums(model / "1")
        rewrite_manifest(
            model / "1", files={file: files[file] for file in files if "manifest" not in file}
        )

    return spoil


def list_a_file_outside(model: Path) -> None:
    rewrite_manifest(model / "1", files={"../../../secret": "0" * 64, CANARY + "\n": "0" * 64})


def read_weights_outside(model: Path) -> None:
    network = onnx.ModelProto.FromString((model / "1" / "model.onnx").read_bytes())
    tensor = network.graph.initializer.add(name=CANARY, data_type=TensorProto.UINT8, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    (model / "1" / "model.onnx").write_bytes(network.SerializeToString())


def name_an_unknown_operator(model: Path) -> None:
    network = onnx.ModelProto.FromString((model / "1" / "model.onnx").read_bytes())
    network.graph.node[0].op_type = CANARY
    (model / "1" / "model.onnx").write_bytes(network.SerializeToString())


def name_an_unlisted_golden_picture(model: Path) -> None:
    path = model / "1" / "golden" / "cases.json"
    path.write_text(path.read_text().replace("golden/0.png", f"../../../{CANARY}"))


def version_outside(model: Path) -> None:
    shutil.move(model / "1", model.parent.parent / f"outside-{model.name}")
    (model / "1").symlink_to(model.parent.parent / f"outside-{model.name}")


OUTSIDE = "leads out of the"
CONTAINMENT = {
    "config-link": Attack(linked("config.yaml"), f"config.yaml {OUTSIDE} repository"),
    "config-proc": Attack(linked("config.yaml", "/proc/self/environ"), OUTSIDE),
    "config-device": Attack(linked("config.yaml", "/dev/zero"), OUTSIDE),
    "config-pipe": Attack(pipe("config.yaml"), "config.yaml cannot be read: it is not a regular"),
    "config-folder": Attack(folder("config.yaml"), "config.yaml cannot be read: it is not a reg"),
    "config-large": Attack(sparse("config.yaml"), "config.yaml is over the limit of 65536 bytes"),
    "config-secret": Attack(
        content("config.yaml", SECRET), "config.yaml is refused: it must be a map"
    ),
    "manifest-link": Attack(linked("1/manifest.json"), f"1/manifest.json {OUTSIDE} artifact"),
    "manifest-pipe": Attack(pipe("1/manifest.json"), "1/manifest.json cannot be read"),
    "manifest-large": Attack(sparse("1/manifest.json"), "1/manifest.json is over the limit"),
    "manifest-secret": Attack(content("1/manifest.json", SECRET), "manifest.json does not match"),
    "checksum-link": Attack(linked("1/manifest.json.sha256"), f"manifest.json.sha256 {OUTSIDE}"),
    "network-link": Attack(linked("1/model.onnx"), f"1/model.onnx {OUTSIDE} artifact"),
    "network-pipe": Attack(pipe("1/model.onnx"), "1/model.onnx cannot be read: it is not a reg"),
    "golden-link": Attack(linked("1/golden/cases.json"), f"1/golden/cases.json {OUTSIDE} art"),
    "golden-secret": Attack(
        with_checksums(content("1/golden/cases.json", SECRET)), "golden/cases.json is malformed"
    ),
    "golden-name": Attack(with_checksums(name_an_unlisted_golden_picture), "not allowed is not"),
    "picture-secret": Attack(
        with_checksums(content("1/golden/0.png", SECRET)), "golden/0.png is not a picture"
    ),
    "names": Attack(list_a_file_outside, "manifest.json lists a file whose name is not allowed"),
    "weights": Attack(with_checksums(read_weights_outside), "keeps weights in another file"),
    "operator": Attack(with_checksums(name_an_unknown_operator), "cannot load the network"),
    "network-secret": Attack(
        with_checksums(content("1/model.onnx", SECRET)), "not a valid ONNX file"
    ),
}


def sign_as_something_else(model: Path) -> None:
    sign_version(model.parent, model.name, 1, STRANGER)


def copy_over(model: Path) -> None:
    """The signed version of another model in this one's place."""
    shutil.rmtree(model / "1")
    shutil.copytree(model.parent / "good" / "1", model / "1")


def copy_to_another_number(model: Path) -> None:
    (model / "1").rename(model / "7")


def replay(model: Path) -> None:
    """The older version, in the place of the newer one."""
    publish_tiny(model.parent, model.name, seed=5)
    sign_version(model.parent, model.name, 2)
    shutil.rmtree(model / "2")
    (model / "1").rename(model / "2")


SIGNATURES = {
    "copied": Attack(copy_over, "for another model or version than copied version 1"),
    "renumbered": Attack(copy_to_another_number, "for another model or version than renumbered"),
    "replayed": Attack(replay, "for another model or version than replayed version 2"),
    "expired": Attack(
        lambda model: sign_version(model.parent, model.name, 1, valid_days=-1),
        "the signature expired on",
    ),
    "stranger": Attack(sign_as_something_else, "was not made with the required key"),
    "unsigned": Attack(lambda model: (model / "1" / "model.sig").unlink(), "is not signed"),
    "signature-link": Attack(linked("1/model.sig"), f"1/model.sig {OUTSIDE} artifact"),
    "signature-secret": Attack(content("1/model.sig", SECRET), "not a signature that convd can"),
    "config-added": Attack(
        content("config.yaml", "labels: {stable: 1}\n"), "config.yaml was added after"
    ),
    "weights-swapped": Attack(
        with_checksums(read_weights_outside), "manifest.json is not the one that was signed"
    ),
    "card-altered": Attack(
        with_checksums(content("1/MODEL_CARD.md", "# better")), "is not the one that was signed"
    ),
}


def spoiled_repository(tmp_path: Path, attacks: dict[str, Attack], *, signed: bool) -> Path:
    root = tmp_path / "repository"
    (tmp_path / "secret").write_text(SECRET)
    for name in ("good", *attacks):
        publish_tiny(root, name)
        if signed:
            sign_version(root, name, 1)
    for name, attack in attacks.items():
        attack.spoil(root / name)
    return root


@contextlib.contextmanager
def serving(root: Path, *words: object) -> Iterator[ServerProcess]:
    command: list[object] = ["-m", "convd", "serve", "--repository", root, "--grpc-port", 0]
    command += ["--http-port", 0, "--poll-seconds", 0.1, "--provider", "cpu", *words]
    command += ["--intra-op-threads", 1, "--load-memory-bytes", 0]
    with launched(command, root.parent / "log", PORTS) as server:
        wait_until(lambda: not http_get(server.http_port, "/readyz")[1].startswith("not ready: l"))
        yield server


def said(server: ServerProcess, names: list[str]) -> tuple[dict[str, str], str]:
    """The reason against each model, and all that the server answers to anybody."""
    answers: list[str] = []
    with grpc.insecure_channel(server.address) as channel:
        convd, oip = ClassificationServiceStub(channel), GRPCInferenceServiceStub(channel)
        listed = convd.ListModels(pb.ListModelsRequest(), timeout=10)
        answers += [str(listed), str(oip.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=10))]
        for name in names:
            calls: list[tuple[Callable[..., Message], Message]] = [
                (convd.GetModel, pb.GetModelRequest(model=pb.ModelSpec(name=name))),
                (convd.Classify, pb.ClassifyRequest(model=pb.ModelSpec(name=name))),
                (oip.ModelMetadata, v2.ModelMetadataRequest(name=name)),
                (oip.ModelConfig, v2.ModelConfigRequest(name=name)),
                (oip.ModelReady, v2.ModelReadyRequest(name=name)),
            ]
            for call, request in calls:
                try:
                    answers.append(str(call(request, timeout=10)))
                except grpc.RpcError as error:
                    answers.append(f"{error.code()} {error.details()}")
    paths = ["/readyz", "/metrics", "/api/models", "/livez", "/", "/v2/models"]
    for name in names:
        paths += [f"/v2/models/{name}", f"/v2/models/{name}/config", f"/v2/models/{name}/ready"]
        files = ("", "/files/MODEL_CARD.md", "/files/golden/0.png", "/files/..%2f..%2fsecret")
        paths += [f"/api/models/{name}/1{file}" for file in files]
    answers += [http_get(server.http_port, path)[1] for path in paths]
    reasons = {one.name: one.reason for one in listed.models if one.name not in ("good",)}
    return reasons, "\n".join(answers)


def test_nothing_outside_the_repository_and_nothing_of_a_bad_file_reaches_a_client(
    tmp_path: Path,
) -> None:
    root = spoiled_repository(tmp_path, CONTAINMENT, signed=False)
    publish_tiny(root, "version-link")
    version_outside(root / "version-link")
    shutil.copytree(root / "good", tmp_path / "elsewhere")
    (root / "model-link").symlink_to(tmp_path / "elsewhere")
    with serving(root) as server:
        reasons, answers = said(server, [*CONTAINMENT, "version-link", "model-link"])
        assert CANARY not in answers
        # A picture of a version that is served already.
        linked("1/golden/0.png")(root / "good")
        shown = http_get(server.http_port, "/api/models/good/1/files/golden/0.png")
        assert (shown[0], CANARY in shown[1]) == (404, False)
        log = server.log.read_text()
    for name, attack in CONTAINMENT.items():
        assert attack.reason in reasons[name], name
        # What lies outside is not even in the log.
        if "link" in name:
            assert CANARY not in "".join(re.findall(rf".*{name}.*", log)), name
    assert "version-link/1 is not served: it leads out of the repository" in log
    assert "model-link is not served: it leads out of the repository" in log
    assert set(reasons) == set(CONTAINMENT)


def test_a_server_that_requires_signatures_serves_only_what_was_signed_as_it_is(
    tmp_path: Path,
) -> None:
    root = spoiled_repository(tmp_path, SIGNATURES, signed=True)
    (root / "configured").mkdir()
    (root / "configured" / "config.yaml").write_text("max_batch_size: 4\n")
    publish_tiny(root, "configured")
    sign_version(root, "configured", 1)
    (tmp_path / "key.pub.pem").write_bytes(public_pem(KEY))
    with serving(root, "--require-signature", tmp_path / "key.pub.pem") as server:
        reasons, answers = said(server, list(SIGNATURES))
        assert CANARY not in answers + server.log.read_text()
        # A running server keeps the configuration that was signed.
        assert reasons.pop("configured") == ""
        (root / "configured" / "config.yaml").write_text("max_batch_size: 1\n")
        kept = "was altered after version 1 was signed.*; the last good configuration stays"
        wait_until(lambda: re.search(kept, said(server, [])[0]["configured"]))
        sign_version(root, "configured", 1)
        wait_until(lambda: said(server, [])[0]["configured"] == "")
        sign_version(root, "unsigned", 1)
        wait_until(lambda: said(server, [])[0]["unsigned"] == "")
    for name, attack in SIGNATURES.items():
        assert attack.reason in reasons[name], name
    # A server that starts with an altered configuration serves nothing under it.
    (root / "configured" / "config.yaml").write_text("max_batch_size: 2\n")
    with serving(root, "--require-signature", tmp_path / "key.pub.pem") as server:
        assert "config.yaml was altered" in said(server, [])[0]["configured"]
        states = json.loads(http_get(server.http_port, "/api/models")[1])
        assert {one["state"] for one in states if one["name"] == "configured"} == {"failed"}


def test_signatures_made_before_a_date_no_longer_count(tmp_path: Path) -> None:
    root = spoiled_repository(tmp_path, {}, signed=True)
    (tmp_path / "key.pub.pem").write_bytes(public_pem(KEY))
    sign_version(root, "good", 1, valid_days=20)
    with serving(root, "--require-signature", tmp_path / "key.pub.pem") as server:
        assert "good version 1 expires in 19 days" in server.log.read_text()
    words = ("--require-signature", tmp_path / "key.pub.pem", "--signed-since", "2999-01-01")
    with serving(root, *words) as server:
        assert "before --signed-since" in http_get(server.http_port, "/readyz")[1]


def test_a_repository_behind_links_is_served_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    publish_tiny(tmp_path / "volume" / "..2026_11_27", "good")
    (tmp_path / "volume" / "..data").symlink_to("..2026_11_27")
    (tmp_path / "volume" / "good").mkdir()
    (tmp_path / "volume" / "good" / "1").symlink_to("../..data/good/1")
    settings = tmp_path / "volume" / "..2026_11_27" / "good.yaml"
    settings.write_text("labels: {stable: 1}\n")
    (tmp_path / "volume" / "good" / "config.yaml").symlink_to("../..data/good.yaml")
    (tmp_path / "mounted").symlink_to("volume")
    with serving(tmp_path / "mounted") as server:
        assert http_get(server.http_port, "/readyz")[0] == 200
        (model,) = json.loads(http_get(server.http_port, "/api/models")[1])
        assert model["version_labels"] == ["stable"]
