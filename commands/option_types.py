"""Types of options that are more than a word or a number."""

from pathlib import Path

import click
from PIL import ImageColor

from convd.artifact.preprocessing import Color
from convd.export.errors import SourceError
from convd.export.sources.label_files import read_labels, split_labels


class Size(click.ParamType[tuple[int, ...]]):
    """`224` or `HEIGHTxWIDTH`, in pixels."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read one or two positive numbers."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(
                f"{value!r} is not a valid size: write 224, or 240x320 (height x width)", param, ctx
            )
        return tuple(int(part) for part in parts)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Read at least one number."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers: write 0.485,0.456,0.406", param, ctx)


class Rgb(click.ParamType[Color]):
    """A colour: `white`, `#727272`, or `114,114,114`."""

    name = "color"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Color:
        """Read red, green and blue."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        try:
            if "," in text and "(" not in text:
                text = f"rgb({text})"
            red, green, blue = ImageColor.getrgb(text)[:3]
        except ValueError:
            red = green = blue = -1
        if not all(0 <= each <= 255 for each in (red, green, blue)):
            self.fail(
                f"{value!r} is not a colour: write white, #727272, or 114,114,114", param, ctx
            )
        return red, green, blue


class Labels(click.ParamType[tuple[str, ...]]):
    """Names separated by commas, or a file: one name per line, CSV or JSON."""

    name = "labels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Read the names."""
        if isinstance(value, tuple):
            return value
        text = str(value)
        if "," in text:
            return split_labels(text)
        try:
            labels, note = read_labels(Path(text).read_bytes(), Path(text).name)
        except SourceError as error:
            self.fail(str(error), param, ctx)
        except OSError as error:
            self.fail(
                f"cannot read {text} ({error.strerror}): give names separated by commas, or a file "
                "with one name per line",
                param,
                ctx,
            )
        if note is not None:
            click.echo(note, err=True)
        return labels


OptionValue = str | int | float | bool
"""A value of an architecture's option."""


class NetworkOption(click.ParamType[tuple[str, OptionValue]]):
    """`NAME=VALUE`, where the value is true, false, a number or a word."""

    name = "option"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, OptionValue]:
        """Take the name and the value apart."""
        name, equals, text = str(value).partition("=")
        if not (name and equals and text):
            self.fail(f"{value!r}: write NAME=VALUE, such as transform_input=true", param, ctx)
        if text.lower() in ("true", "false"):
            return name, text.lower() == "true"
        for number in (int, float):
            try:
                return name, number(text)
            except ValueError:
                continue
        return name, text
