"""Places in object storage, reached by fsspec: `s3://BUCKET/PREFIX`, `gs://` and `az://`."""

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convd.artifact.errors import StorageError
from convd.installation import install_command

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL_PATTERN = r"^(s3|gs|az)://[^/\s]+(/\S*)?$"

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
_CHUNK_BYTES = 1024 * 1024
_MAX_OBJECTS = 200_000
# An outage is seen within seconds; boto's own patience is minutes.
_S3_OPTIONS = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}
}


class StoredObject(NamedTuple):
    """An object as a listing shows it.

    Attributes:
        size_bytes: Its size.
        tag: Another one for other content.
    """

    size_bytes: int
    tag: str


def is_storage_url(text: str) -> bool:
    """Whether a text names a place in object storage."""
    return re.match(URL_PATTERN, text) is not None


class ObjectStorage:
    """The objects below one place; paths are relative to it.

    Args:
        url: The place.
        system: The file system to use; None for the one that the URL names.

    Raises:
        StorageError: A package is missing, or its settings cannot be used.
    """

    def __init__(self, url: str, system: "AbstractFileSystem | None" = None) -> None:
        self.url = url.rstrip("/")
        scheme, _, place = self.url.partition("://")
        self._root = place
        self._system = system or _open(scheme, self.url)

    def objects(self) -> dict[str, StoredObject]:
        """List everything here.

        Raises:
            StorageError: It cannot be listed, or holds far more than models.
        """
        with self._reaching("list"):
            self._system.invalidate_cache()
            try:
                found: dict[str, Any] = self._system.find(self._root, detail=True)
            except FileNotFoundError:
                found = {}
        if len(found) > _MAX_OBJECTS:
            raise StorageError(
                f"{self.url} holds over {_MAX_OBJECTS} objects: give a place that holds models only"
            )
        prefix = len(self._root) + 1
        return {
            path.lstrip("/")[prefix:]: StoredObject(int(about["size"] or 0), _tag(about))
            for path, about in found.items()
        }

    def read(self, path: str, max_bytes: int) -> bytes:
        """Read an object.

        Raises:
            StorageError: It does not exist, cannot be read, or is larger than the bound.
        """
        return b"".join(self.chunks(path, max_bytes))

    def chunks(self, path: str, max_bytes: int) -> Iterator[bytes]:
        """Read an object piece by piece; the errors are those of `read`."""
        total = 0
        with (
            self._reaching("read", path),
            self._system.open(f"{self._root}/{path}", "rb", cache_type="none") as opened,
        ):
            while chunk := opened.read(_CHUNK_BYTES):
                total += len(chunk)
                if total > max_bytes:
                    break
                yield chunk
        if total > max_bytes:
            raise StorageError(f"{path} is over the limit of {max_bytes} bytes for this file")

    def put(self, source: Path, path: str) -> None:
        """Write a file's content to an object."""
        with self._reaching("write", path):
            self._system.put_file(str(source), f"{self._root}/{path}")

    def put_new(self, source: Path, path: str) -> bool:
        """Write a file's content to an object that must not exist yet; whether it did not."""
        with self._reaching("write", path):
            try:
                self._system.put_file(str(source), f"{self._root}/{path}", mode="create")
            except FileExistsError:
                return False
            # S3's "the precondition did not hold" reaches us as a plain OSError.
            except OSError as error:
                if "precondition" not in str(error).lower():
                    raise
                return False
        return True

    def remove(self, paths: list[str]) -> None:
        """Remove objects."""
        with self._reaching("remove"):
            for path in paths:
                self._system.rm_file(f"{self._root}/{path}")

    @contextlib.contextmanager
    def _reaching(self, verb: str, path: str = "") -> Iterator[None]:
        place = f"{self.url}/{path}" if path else self.url
        try:
            yield
        except GeneratorExit:
            raise
        # Each storage has errors of its own, which have no common base.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise StorageError(f"cannot {verb} {place}", detail=reason) from error


def check_installed(url: str) -> None:
    """Refuse a URL whose package is missing.

    Raises:
        StorageError: What to install.
    """
    scheme = url.partition("://")[0]
    package = _PACKAGES[scheme]
    if importlib.util.find_spec(package) is None:
        raise StorageError(f"{scheme}:// needs the package {package!r}: {install_command(scheme)}")


def _open(scheme: str, url: str) -> "AbstractFileSystem":
    check_installed(url)
    import fsspec

    options = _S3_OPTIONS if scheme == "s3" else {}
    try:
        return fsspec.filesystem(
            scheme, skip_instance_cache=True, use_listings_cache=False, **options
        )
    # Wrong credentials, endpoints and settings are refused in as many ways as there are storages.
    except Exception as error:
        raise StorageError(f"cannot open {url}", detail=str(error)) from error


def _tag(about: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "content_md5", "LastModified", "mtime", "created"):
        if about.get(key):
            return str(about[key])
    return ""
