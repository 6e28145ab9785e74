"""Reading image files, and finding the broken ones before training does."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from convd.artifact.decoding import decode_image
from convd.artifact.errors import InvalidImageError
from convd.models.errors import DataError

Report = Callable[[str], None]
"""Called with a text at the start of each slow step."""

_FILES_PER_REPORT = 500


def read_picture(file: Path) -> Image.Image:
    """Decode an image file.

    Raises:
        DataError: The file cannot be read or decoded.
    """
    try:
        return decode_image(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except InvalidImageError as error:
        raise DataError(f"{file}: {error}") from error


def find_broken(files: Sequence[Path], report: Report) -> dict[Path, str]:
    """Decode every file once, in threads, so that training does not fail hours later.

    Args:
        files: Image files.
        report: Called with a text about the progress.

    Returns:
        The files that cannot be decoded, each with the reason.
    """
    broken = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="check") as threads:
        problems = threads.map(_problem, files)
        for number, (file, problem) in enumerate(zip(files, problems, strict=True), start=1):
            if problem is not None:
                broken[file] = problem
            if number % _FILES_PER_REPORT == 0:
                report(f"checking pictures: {number:,} of {len(files):,}")
    return broken


def _problem(file: Path) -> str | None:
    try:
        read_picture(file)
    except DataError as error:
        return str(error)
    return None
