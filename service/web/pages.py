"""The files of the console: one page, its style and its scripts."""

from importlib import resources
from pathlib import PurePosixPath

from convd.service.web.response import Response

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_pages() -> dict[str, Response]:
    """Read all files of the console into memory, by path."""
    pages = {}
    for file in (resources.files("convd.service.web") / "static").iterdir():
        media_type = _MEDIA_TYPES.get(PurePosixPath(file.name).suffix)
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/static/{file.name}"
            pages[path] = Response(file.read_bytes(), media_type)
    return pages
