"""The report of a comparison: what a person needs to decide whether a version shall answer."""

import base64
import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from convd.client.comparison import ComparedImage, Comparison

_Z = 1.96
"""Of the normal distribution, for 95 %."""

_SHOWN_CHANGES = 20

# What Markdown shows as it is; a browser shows these from their data too.
_SHOWN_TYPES = ("image/png", "image/jpeg", "image/webp")

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #8888; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
code { overflow-wrap: anywhere; }
img { max-width: 8rem; max-height: 8rem; image-rendering: pixelated; }"""


def interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, JASA 22, 1927), 0 to 1; all of it without trials."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z * math.sqrt(share * (1 - share) / trials + spread / trials / 4) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def as_json(comparisons: Iterable[Comparison]) -> str:
    """The comparisons as one JSON document; pictures in base64."""
    documents = []
    for one in comparisons:
        document = dataclasses.asdict(one)
        # JSON knows no infinity.
        document["total_variation_counts"] = [
            {"up_to": bound if math.isfinite(bound) else None, "images": images}
            for bound, images in one.total_variation_counts
        ]
        for image in document["most_different"]:
            image["data"] = base64.b64encode(image["data"]).decode()
        documents.append(document)
    return json.dumps({"comparisons": documents}, indent=2)


def as_html(comparisons: Sequence[Comparison]) -> str:
    """The report as a page of its own, with the pictures that are kept."""
    # Installed with rich, which the client commands need.
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = markdown.render(as_markdown(comparisons, with_pictures=True))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Comparison of versions</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}</body></html>\n"
    )


def as_markdown(comparisons: Sequence[Comparison], *, with_pictures: bool = False) -> str:
    """The report as Markdown."""
    return (
        "\n\n".join(
            part for one in comparisons for part in _sections(one, with_pictures=with_pictures)
        )
        + "\n"
    )


def _sections(found: Comparison, *, with_pictures: bool) -> list[str]:
    compared = found.compared
    since = _time(found.since_unix_seconds)
    sections = [
        f"# {_code(found.model)}: version {found.candidate} beside version {found.live}",
        f"{compared} pictures were compared since {since}, {found.share:.3g} of those that version "
        f"{found.live} answers if there is time. {_what_else(found)}",
    ]
    if found.problem:
        sections.append(f"**Nothing is compared now: {_code(found.problem)}.**")
    if not compared:
        return sections
    sections += [
        _table(["Measure", "Value", "95 % interval"], _measures(found)),
        "Which version is right, the server cannot know: look at the pictures below, and at the "
        "accuracy in both model cards.",
        "## How far the answers are apart",
        _table(
            ["Total variation", "Pictures", "Share"],
            [
                (
                    f"up to {bound:g}" if math.isfinite(bound) else "more",
                    images,
                    f"{images / compared:.1%}",
                )
                for bound, images in found.total_variation_counts
            ],
        ),
    ]
    sections += _labels(found)
    if found.changes:
        sections += [
            "## What changes",
            _table(
                [f"Version {found.live} says", f"Version {found.candidate} says", "Pictures"],
                [
                    (_code(one.live), _code(one.candidate), one.images)
                    for one in found.changes[:_SHOWN_CHANGES]
                ],
            ),
        ]
    if found.most_different:
        headings = [f"Version {found.live}", f"Version {found.candidate}", "Apart", "Picture"]
        sections += [
            "## The pictures that differ most",
            "By the SHA-256 of the file as it was sent: `sha256sum` finds it in your data.",
            _table(headings, [_picture_row(one, with_pictures) for one in found.most_different]),
        ]
    return sections


def _what_else(found: Comparison) -> str:
    reasons = {
        "dropped": "dropped, because requests left no time for them",
        "unfit": "unfit, because the candidate takes another input",
        "unavailable": "skipped, because the candidate was not available",
        "failed": "failures of the candidate",
    }
    told = [f"{found.images[key]} {text}" for key, text in reasons.items() if found.images.get(key)]
    if found.waiting:
        told.append(f"{found.waiting} waiting")
    return f"Besides: {'; '.join(told)}." if told else "None was left out."


def _measures(found: Comparison) -> list[tuple[object, ...]]:
    drift = found.candidate_confidence - found.live_confidence
    rows: list[tuple[object, ...]] = [
        ("same prediction (top-1)", *_share(found.top1_agreements, found.compared)),
    ]
    if found.task == "multiclass":
        name = f"answer among the candidate's first {found.top_k} (top-{found.top_k})"
        rows.append((name, *_share(found.top_k_agreements, found.compared)))
    rows += [
        (f"mean confidence of version {found.live}", f"{found.live_confidence:.4f}", ""),
        (f"mean confidence of version {found.candidate}", f"{found.candidate_confidence:.4f}", ""),
        ("drift of confidence", f"{drift:+.4f}", ""),
        ("mean difference of confidence of a picture", f"{found.confidence_difference:.4f}", ""),
        ("mean total variation", f"{found.total_variation:.4f}", ""),
    ]
    return rows


def _labels(found: Comparison) -> list[str]:
    parts = []
    for version, labels in (
        (found.live, found.live_only_labels),
        (found.candidate, found.candidate_only_labels),
    ):
        if labels:
            shown = ", ".join(map(_code, labels[:_SHOWN_CHANGES]))
            more = ", ..." if len(labels) > _SHOWN_CHANGES else ""
            parts.append(f"Only version {version} has: {shown}{more}.")
    return parts


def _picture_row(image: ComparedImage, with_pictures: bool) -> tuple[str, ...]:
    cells = [_code(image.sha256), _time(image.unix_seconds)]
    if image.request_id:
        cells.append(f"request {_code(image.request_id)}")
    if with_pictures and image.media_type in _SHOWN_TYPES:
        data = base64.b64encode(image.data).decode()
        cells.insert(0, f"![the picture](data:{image.media_type};base64,{data})")
    return (
        _classes(image.live),
        _classes(image.candidate),
        f"{image.total_variation:.3f}",
        " ".join(cells),
    )


def _classes(classes: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{_code(label)} {probability:.3f}" for label, probability in classes)


def _share(successes: int, trials: int) -> tuple[str, str]:
    low, high = interval(successes, trials)
    return f"{successes / trials:.2%}", f"{low:.2%} to {high:.2%}"


def _time(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _code(text: str) -> str:
    """A text as it is: what others have chosen must not become a table, a link or a picture."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in text).replace("`", "'")
    return f"`{plain.replace('|', chr(92) + '|')}`"


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
