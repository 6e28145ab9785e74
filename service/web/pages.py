"""The files of the console: one page, its style and its scripts."""

from collections.abc import Callable
from importlib import resources
from pathlib import PurePosixPath

from convd.service.errors import NotFoundError
from convd.service.web.request import Request
from convd.service.web.response import Response

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def pages() -> Callable[[Request], Response]:
    """Read all files of the console into memory; the function answers with the one of a path."""
    by_path = {}
    for file in (resources.files("convd.service.web") / "static").iterdir():
        media_type = _MEDIA_TYPES.get(PurePosixPath(file.name).suffix)
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/static/{file.name}"
            by_path[path] = Response(file.read_bytes(), media_type)

    def answer(request: Request) -> Response:
        page = by_path.get(request.head.path)
        if page is None:
            raise NotFoundError("the console has no such file")
        return page

    return answer
