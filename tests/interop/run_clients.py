"""`make interop`: other people's clients, unchanged, against servers on loopback."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from testbed.authorities import Authority
from testbed.principals import write_principals
from tests.interop.environments import kserve_client_python, triton_client_python
from tests.service.protocols.open_inference.requests import png
from tests.support import ROOT, Client, running_server
from tests.tiny_artifact import LABELS, publish_tiny

MODEL = "pets"
CLIENTS = ROOT / "docs" / "clients"


def main() -> None:
    """Run every check; a non-zero exit says that one failed."""
    with tempfile.TemporaryDirectory() as folder:
        repository, plain = Path(folder) / "models", Path(folder) / "image"
        publish_tiny(repository, MODEL)
        publish_tiny(plain, MODEL)
        (plain / MODEL / "config.yaml").write_text("triton_interface: image\n")
        picture = Path(folder) / "cat.png"
        picture.write_bytes(png())
        with (
            running_server(repository, allow_repository_control=True) as server,
            running_server(repository, max_queue_delay_seconds=60.0) as waiting,
            running_server(plain) as image,
        ):
            _check_curl(server, picture)
            _check_node(server, picture)
            triton = triton_client_python()
            _run(
                *(triton, "-m", "tests.interop.triton_client"),
                *(*_addresses(server), *_addresses(waiting), MODEL),
            )
            _run(triton, "-m", "tests.interop.image_client", *_addresses(image), MODEL)
            _run(
                *(kserve_client_python(), "-m", "tests.interop.kserve_client"),
                *(*_addresses(server), MODEL),
            )
        _check_secure(repository, Path(folder), picture, triton)


def _check_curl(server: Client, picture: Path) -> None:
    text = _run(CLIENTS / "curl.sh", picture, MODEL, f"127.0.0.1:{server.http_port}")
    lines = text.splitlines()
    one, several = json.loads(lines[0]), json.loads(lines[1])
    assert [len(result["classification"]["classes"]) for result in one["results"]] == [3]
    assert [len(result["classification"]["classes"]) for result in several["results"]] == [1, 1]
    assert "X-Request-Id: curl-1" in text
    assert json.loads(lines[-2])["name"] == MODEL
    assert json.loads(lines[-1])[0]["state"] == "READY"
    print("ok  curl", flush=True)


def _check_node(server: Client, picture: Path) -> None:
    if shutil.which("node") is None:
        print("--  node is not installed: its client is not checked", flush=True)
        return
    script = CLIENTS / "classify.mjs"
    text = _run("node", script, picture, MODEL, f"127.0.0.1:{server.http_port}")
    assert sorted(line.split()[0] for line in text.splitlines()) == sorted(LABELS)
    print("ok  node", flush=True)


def _check_secure(repository: Path, folder: Path, picture: Path, triton: Path) -> None:
    """The same clients against a server with TLS, client certificates and tokens."""
    authority, stranger = Authority(folder), Authority(folder, "stranger")
    certificate, key = authority.issue("server")
    scopes = [f"infer:{MODEL}", f"models:read:{MODEL}"]
    token = write_principals(folder / "principals.json", {"lab": scopes})["lab"]
    with running_server(
        repository,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=authority.certificate_file,
        principals=folder / "principals.json",
    ) as server:
        files = (authority.certificate_file, *authority.issue("client", hosts=()))
        addresses = (f"localhost:{server.grpc_port}", f"localhost:{server.http_port}")
        _run(
            *(triton, "-m", "tests.interop.secure_client", *addresses, MODEL, token),
            *(*files, stranger.certificate_file),
        )
        url = f"https://localhost:{server.http_port}/v1/classify/{MODEL}"
        header = f"Authorization: Bearer {token}"
        words = ["curl", "--silent", "--fail", "--data-binary", f"@{picture}", url]
        _run(*words, "--cacert", authority.certificate_file, "--header", header)
        for missing in (["--cacert", authority.certificate_file], ["--header", header]):
            assert subprocess.run([*map(str, (*words, *missing))], check=False).returncode != 0
        print("ok  curl with TLS and tokens", flush=True)
        if shutil.which("node") is None:
            return
        script = (
            "const [url, token, file] = process.argv.slice(1);"
            "const body = (await import('node:fs')).readFileSync(file);"
            "const headers = token ? {Authorization: `Bearer ${token}`} : {};"
            "const answer = await fetch(url, {method: 'POST', body, headers});"
            "process.exit(answer.status === 200 ? 0 : 1);"
        )
        node = ["node", "--input-type=module", "--eval", script, url]
        for known, sent, allowed in (
            (authority, token, True),
            (authority, "", False),
            (stranger, token, False),
        ):
            completed = subprocess.run(
                [*node, sent, str(picture)],
                env=os.environ | {"NODE_EXTRA_CA_CERTS": str(known.certificate_file)},
                check=False,
                capture_output=True,
            )
            assert (completed.returncode == 0) is allowed, completed.stderr.decode()
        print("ok  node with TLS and tokens", flush=True)


def _addresses(server: Client) -> tuple[str, str]:
    return f"127.0.0.1:{server.grpc_port}", f"127.0.0.1:{server.http_port}"


def _run(*command: object) -> str:
    """What a program writes; what it is for fails if it does."""
    words = [str(word) for word in command]
    completed = subprocess.run(
        words, check=False, timeout=300, cwd=ROOT, capture_output=True, text=True
    )
    if completed.returncode != 0:
        raise SystemExit(f"{' '.join(words)}:\n{completed.stdout}{completed.stderr}")
    if "-m" in words:
        print(completed.stdout, end="", flush=True)
    return completed.stdout


if __name__ == "__main__":
    main()
