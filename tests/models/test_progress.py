import io
import re

import pytest
from rich.console import Console

from convd.models.progress import TrainingProgress
from convd.models.records import EpochRecord

_RECORD = EpochRecord(
    epoch=1,
    train_loss=0.5,
    train_accuracy=0.75,
    watched="held out",
    watched_accuracy=0.625,
    learning_rate=0.1,
    images_per_second=1234.0,
    seconds=1.0,
)
_LINE = "epoch 1/2: loss 0.5000, accuracy 75.00% training, 62.50% held out, 1,234 images/s"


def _shown(*, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with TrainingProgress(2, 8, console) as show:
        show.step(epoch=1, step=2, loss=0.9, accuracy=0.25, images_per_second=100.0)
        show.step(epoch=1, step=4, loss=0.7, accuracy=0.5, images_per_second=100.0)
        show.epoch(_RECORD)
        show.warn("the loss [sic] rises")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
def test_each_epoch_leaves_a_line(*, terminal: bool) -> None:
    lines = [line.strip() for line in _shown(terminal=terminal).splitlines()]
    assert _LINE in lines
    assert "warning: the loss [sic] rises" in lines


def test_a_terminal_has_a_bar_within_the_epoch() -> None:
    shown = _shown(terminal=True)
    assert re.search(
        r"epoch 1/2 .* 4/8 loss 0\.7000, accuracy 50\.00%, 100 images/s, \d:\d\d:\d\d left", shown
    )


def test_a_file_has_the_lines_alone() -> None:
    assert _shown(terminal=False).splitlines() == [_LINE, "warning: the loss [sic] rises"]
