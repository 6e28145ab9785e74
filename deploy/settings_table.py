"""The table of every setting in docs/operating.md: python -m deploy.settings_table."""

from pathlib import Path

from convd.service.settings import ENVIRONMENT_PREFIX, ServerSettings

GUIDE = Path(__file__).parent.parent / "docs" / "operating.md"
BEGIN = "<!-- settings: written by python -m deploy.settings_table -->\n"
END = "<!-- end of settings -->"


def table() -> str:
    """One row for each setting, in the order of the settings."""
    rows = ["| Flag | Variable | Default | What it does |", "| --- | --- | --- | --- |"]
    for name, field in ServerSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        default = "required" if field.is_required() else f"`{field.get_default()}`"
        text = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{flag}` | `{variable}` | {default} | {text} |")
    return "\n".join(rows) + "\n"


def with_table(guide: str) -> str:
    """The guide with a fresh table."""
    before, rest = guide.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END, 1)[1]


def main() -> None:
    """Write the table into the guide."""
    GUIDE.write_text(with_table(GUIDE.read_text()))


if __name__ == "__main__":
    main()
