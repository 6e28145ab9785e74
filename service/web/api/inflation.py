"""Bodies that a client has compressed."""

import zlib

from convd.service.errors import InvalidRequestError, UnsupportedError
from convd.service.quoting import quote

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


def inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return a body as it was before it was compressed.

    Args:
        body: The body.
        encoding: The `Content-Encoding`; empty for none.
        max_bytes: Largest size to inflate to.

    Raises:
        UnsupportedError: The encoding is neither gzip nor deflate.
        InvalidRequestError: The body is not compressed so, is cut, or inflates to more.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedError(
            f"Content-Encoding '{quote(encoding)}' is not supported: send gzip, deflate or none"
        )
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise InvalidRequestError(
            f"the body is not {name}: send what Content-Encoding says"
        ) from None
    if len(content) > max_bytes:
        raise InvalidRequestError(
            f"the body inflates to more than {max_bytes} bytes, the limit of this path"
        )
    if not inflater.eof:
        raise InvalidRequestError(f"the body ends in the middle of its {name} data")
    if inflater.unused_data:
        raise InvalidRequestError(f"the body has more bytes after its {name} data")
    return content
