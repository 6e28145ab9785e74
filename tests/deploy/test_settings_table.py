from convd.service.settings import ServerSettings
from deploy.settings_table import GUIDE, table, with_table


def test_the_guide_has_every_setting_as_it_is() -> None:
    guide = GUIDE.read_text()
    assert with_table(guide) == guide, "python -m deploy.settings_table"


def test_every_setting_has_a_row_with_its_help() -> None:
    rows = table()
    for name, field in ServerSettings.model_fields.items():
        assert f"`CONVD_{name.upper()}`" in rows
        assert field.description
