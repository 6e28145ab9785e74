"""`make interop`: OpenSSF's model-signing verifies what convd signs."""

import subprocess
import tempfile
from pathlib import Path

from tests.artifact.signing import KEY, STRANGER, public_pem, sign_version
from tests.interop.environments import model_signing_python
from tests.tiny_artifact import publish_tiny


def main() -> None:
    """Run every check; a non-zero exit says that one failed."""
    python = model_signing_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish_tiny(folder / "r")
        sign_version(folder / "r", "pets", 1)
        version, key, stranger = folder / "r" / "pets" / "1", folder / "key", folder / "stranger"
        key.write_bytes(public_pem(KEY))
        stranger.write_bytes(public_pem(STRANGER))
        _expect("a signed version", python, version, key, verified=True)
        _expect("another key", python, version, stranger, verified=False)
        (version / "MODEL_CARD.md").write_text("added")
        _expect("a version with another file", python, version, key, verified=False)


def _expect(what: str, python: Path, version: Path, key: Path, *, verified: bool) -> None:
    program = ["-m", "model_signing", "verify", "key", version, "--public_key", key]
    words = [str(word) for word in (python, *program, "--signature", version / "model.sig")]
    completed = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120)
    if (completed.returncode == 0) is not verified:
        raise SystemExit(f"{what}: {completed.stdout}{completed.stderr}")
    print(f"{what}: {'verified' if verified else 'refused'}, as it should be")


if __name__ == "__main__":
    main()
