"""The sections of the walkthrough: each computes its numbers and writes its text."""

import importlib
import re
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from torch import nn

from bench.document import table
from bench.walkthrough import formulas, network
from bench.walkthrough.figures import lines, pictures
from bench.zoo_training import RECIPES
from convd.models import create_model
from convd.models.data.drawn import LABELS
from convd.models.registry import find_architecture


def pixels() -> str:
    """A picture is a matrix."""
    gray = _photograph()
    corner = gray[90:96, 40:48].astype(int)
    shape = " x ".join(map(str, load_sample_image("china.jpg").shape))
    return f"""## A picture is a matrix

For a computer a picture is a table of numbers. This photograph has {shape} of them: rows, columns,
and one value from 0 to 255 each for red, green and blue. Without colour one value is left for each
place, 0 for black and 255 for white: 0.299 red + 0.587 green + 0.114 blue. Six rows and eight
columns of it, taken from every second row and column:

```
{_matrix(corner)}
```
"""


def convolution() -> str:
    """By hand, and by the layer."""
    image, kernel = formulas.FIVE_BY_FIVE, formulas.THREE_BY_THREE
    by_hand = formulas.convolve(image, kernel)
    layer = nn.Conv2d(1, 1, 3, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(kernel)
        by_layer = layer(torch.from_numpy(image).float()[None, None])[0, 0].numpy()
    difference = np.abs(by_hand - by_layer).max()
    gray = _photograph()
    shown = {
        "photograph": gray,
        "edges": np.abs(formulas.convolve(gray, formulas.EDGES)).clip(0, 255),
        "sharpened": formulas.convolve(gray, formulas.SHARPEN).clip(0, 255),
        "blurred": formulas.convolve(gray, formulas.BLUR),
    }
    return f"""## Convolution: one small filter, slid over the whole picture

Lay a filter over a corner of the picture, multiply each number with the one under it, and add the
products up: that is one number of the result, the *feature map*. Then move the filter by one pixel.

```
picture      filter    feature map
{_side_by_side(image, kernel, by_hand)}
```

The first number is {_products(image[:3, :3], kernel)} = {by_hand[0, 0]:.0f}. PyTorch's layer
`nn.Conv2d` with this filter gives the same map; the largest difference is {difference:.0f}.

What a filter finds depends on its numbers alone. Three filters on the photograph:

{pictures("filters", shown)}

- *Edges*: 8 in the middle and -1 around it. Where all nine pixels are alike the sum is 0.
- *Sharpened*: 5 in the middle and -1 at its four sides: differences are added to the pixel itself.
- *Blurred*: the mean of 5 x 5 pixels.

A filter for a colour picture has three such sheets of numbers, one for each colour, and all the
products are added up into one number. A filter for feature maps has a sheet for each map.

Nobody writes such filters into a convolutional network. It starts with random ones and learns.
"""


def sizes() -> str:
    """Stride, depth and zero padding."""
    measured = network.sizes()
    wrong = 0
    rows = []
    for size, kernel, stride, padding, filters, shape in measured:
        side = formulas.output_size(size, kernel, stride, padding)
        wrong += shape != (filters, side, side)
        if size == 32:
            rows.append((f"{kernel} x {kernel}", stride, padding, f"{side} x {side}", shape))
    shown = [(k, s, p, f, " x ".join(map(str, m))) for k, s, p, f, m in rows]
    return f"""## Depth, stride and zero padding: how large the map is

*Depth* is the number of filters, each of which gives a map of its own. *Stride* is how far the
filter moves. *Zero padding* puts rings of zeros around the picture, so that the filter also fits
over its edges. Each side of a map has

    (side - filter + 2 x padding) / stride + 1

numbers, rounded down. A picture of 32 x 32 and six filters:

{table(("filter", "stride", "padding", "by the formula", "measured: maps x rows x columns"), shown)}

Of {len(measured)} layers that were built and run, {len(measured) - wrong} had the size of the
formula.
"""


def relu_and_pooling(trained: network.Trained) -> str:
    """ReLU on a real feature map, and three ways to pool it."""
    image = network.unseen(1)[0]
    with torch.inference_mode():
        before = trained.network.c1(trained.inputs([image]))[0].numpy()
    index = int((before.min(axis=(1, 2)) * before.max(axis=(1, 2))).argmin())
    values = before[index].astype(float)
    after = formulas.relu(values)
    negative = (values < 0).mean()
    window = after[10:14, 10:14]
    pooled = {kind: formulas.pool(after, kind) for kind in formulas.POOLINGS}
    shown: dict[str, NDArray[np.generic]] = {"picture": image, "feature map": values}
    shown |= {"after ReLU": after, **{f"{kind} pooling": each for kind, each in pooled.items()}}
    small = "\n".join(
        f"{kind:8} {_row(formulas.pool(window, kind).ravel())}" for kind in formulas.POOLINGS
    )
    return f"""## ReLU: keep what speaks for a feature

A filter answers with positive numbers where its pattern is, and with negative ones where the
opposite is. ReLU, the *rectified linear unit*, makes every negative number 0. Without such a bend
a stack of layers could do no more than one. In this map of a trained LeNet-5, {negative:.0%} of
the numbers were negative, from {values.min():.2f} to {values.max():.2f}.

{pictures("relu", shown, columns=3)}

## Pooling: a smaller map, with what counts

Pooling makes one number of each 2 x 2 window, so the map has a quarter of its numbers left. Of
these 4 x 4 numbers of the map

```
{_matrix(window, ".2f")}
```

the three ways to pool make

```
{small}
```
"""


def shifts(trained: dict[str, network.Trained]) -> str:
    """What pooling gives under shifts."""
    steps = range(1, 5)
    curves = {
        f"{kind} pooling": [network.moved_by(each, pixels) for pixels in steps]
        for kind, each in trained.items()
    }
    rows = [
        (kind.split()[0], f"{trained[kind.split()[0]].accuracy:.1%}", *(f"{v:.3f}" for v in values))
        for kind, values in curves.items()
    ]
    headings = ("pooling", "held-out accuracy", *(f"moved by {pixels}" for pixels in steps))
    figure = lines("shifts", curves, list(steps), "pixels to the right", "probability that moves")
    return f"""## What pooling gives when pictures move

Pooling is said to make a network indifferent to small shifts. Three LeNet-5, alike but for their
pooling and trained for {network.EPOCHS} epochs, answer 200 pictures and the same pictures moved
to the right. The numbers say how much probability went from some classes to others on average: 0
if no answer changed, 1 if every answer became another one for certain.

{table(headings, rows)}

{figure}

No pooling makes answers stand still: a shift by one pixel changes which four numbers share a
window.
"""


def classifier(trained: network.Trained) -> str:
    """The fully connected layer and softmax."""
    image = network.unseen(3)[2]
    with torch.inference_mode():
        found = {
            k: v[0].double().numpy()
            for k, v in trained.network.intermediates(trained.inputs([image])).items()
        }
    layer = trained.network.output
    logits = formulas.fully_connected(
        found["pre_logits"],
        layer.weight.detach().double().numpy(),
        layer.bias.detach().double().numpy(),
    )
    probabilities = formulas.softmax(logits)
    difference = np.abs(logits - found["logits"]).max()
    rows = [
        (label, f"{logit:.3f}", f"{np.exp(logit):.3f}", f"{share:.1%}")
        for label, logit, share in zip(LABELS, logits, probabilities, strict=True)
    ]
    sizes = ", ".join(f"{k} {' x '.join(map(str, v.shape))}" for k, v in found.items())
    return f"""## The fully connected layer, and probabilities

From layer to layer the maps become smaller and more numerous, until each is a single number, a
*feature* of the whole picture. LeNet-5's stages for one picture, by the names of its paper (c is a
convolution, s a pooling): {sizes}.

In a *fully connected* layer every output is the sum of all inputs, each times a weight of its own,
and one more number, the bias. The last layer is one: from {len(found["pre_logits"])} numbers it
makes one for each class, the *logits*. *Softmax* makes probabilities of them: e to each logit,
divided by the sum of these powers. For a picture of a {LABELS[network.UNSEEN.target(2)]}:

{table(("class", "logit", "e to the logit", "probability"), rows)}

These were computed by hand from the network's weights; its own logits differ by at most
{difference:.0e}.
"""


def one_step() -> str:
    """One training step."""
    image, label = network.unseen(3)[2], LABELS[network.UNSEEN.target(2)]
    step = network.one_step(image, label)
    rows = [
        (name, int(name == label), f"{before:.3f}", f"{after:.3f}")
        for name, before, after in zip(LABELS, step.before, step.after, strict=True)
    ]
    gradients = ", ".join(f"{name} {length:.3f}" for name, length in step.gradients.items())
    return f"""## Learning: one step

With random weights the probabilities say nothing. The *total error* compares them with the
target, which is 1 for the true class and 0 for the others: ½ Σ (target - output)².
*Backpropagation* finds for every weight how the error would change with it, its gradient; each
weight then goes a small step against its gradient, here {step.rate:g} times as far. One step on
the picture of a {label}:

{table(("class", "target", "before", "after"), rows)}

The total error falls from {step.error_before:.4f} to {step.error_after:.4f}. How long the gradient
of each layer is, the root of the sum of its squares: {gradients}.
"""


def training(trained: network.Trained) -> str:
    """The epochs, and pictures that the network has not seen."""
    epochs = [record.epoch for record in trained.records]
    figure = lines(
        "epochs",
        {
            "training": [record.train_accuracy for record in trained.records],
            "held out": [record.watched_accuracy for record in trained.records],
        },
        epochs,
        "epoch",
        "accuracy",
    )
    images = network.unseen(8)
    answers = trained.probabilities(images)
    shown = {
        f"{index + 1}: {LABELS[int(row.argmax())]} {row.max():.0%}": image
        for index, (image, row) in enumerate(zip(images, answers, strict=True))
    }
    everything = trained.probabilities(network.unseen(len(network.UNSEEN))).argmax(axis=1)
    right = sum(int(one) == network.UNSEEN.target(i) for i, one in enumerate(everything))
    first, last = trained.records[0], trained.records[-1]
    return f"""## The epochs, and pictures that it has never seen

Training repeats this step with {network.BATCH} pictures at a time. An *epoch* is one pass over all
training pictures. The *loss*, which it makes small in place of the total error, is the mean of
-ln(probability of the true class): for a network that guesses among four classes ln 4 =
{np.log(len(LABELS)):.3f}. A tenth of the weight goes to all classes evenly, so that the network
does not become too sure of itself; therefore the loss cannot reach 0, but
{network.lowest_loss():.3f} at best.

Over {len(epochs)} epochs the loss falls from {first.train_loss:.3f} to {last.train_loss:.3f}, and
the *accuracy* on held-out pictures, the share that is named rightly, goes from
{first.watched_accuracy:.1%} to {last.watched_accuracy:.1%}; guessing would be right for
{1 / len(LABELS):.0%}. Held-out pictures are never trained on.

{figure}

Of {len(network.UNSEEN)} other pictures the network names {right} rightly. The first eight:

{pictures("unseen", shown)}

The same in one command: `convd train lenet --data drawn: --classes dog,cat,boat,bird --output
runs/drawn`.
"""


def architectures() -> str:
    """The seven architectures side by side."""
    rows = sorted(_facts(), key=lambda row: row[1])
    headings = ("network", "year", "layers with weights", "parameters", "what was new")
    return f"""## Seven networks

Each paper went on from the one before it. One network of each, for 1,000 classes, counted in
`models/` itself, including layers side by side; auxiliary classifiers, which only training uses,
are left out. A layer of filters has filters x (sheets x side x side + 1) parameters.

{table(headings, rows)}

## What this page leaves out

How backpropagation finds the gradients (the chain rule, layer by layer); momentum, weight decay and
the learning rate's schedule; the random changes to training pictures; batch normalisation, on which
the networks since 2014 rest here. [training.md](training.md) says what `convd train` does.
"""


def _facts() -> Iterable[tuple[str, str, int, str, str]]:
    for name in RECIPES:
        architecture = find_architecture(name)
        options = {"auxiliary_classifiers": False} if name == "googlenet" else {}
        with torch.device("meta"):
            built = create_model(name, **options)
        module = importlib.import_module(type(built).__module__)
        heading = re.match(
            r"(\S+) \((\d{4})\)[:,] (?:which )?(.*?)\.\s", f"{module.__doc__} ", re.DOTALL
        )
        assert heading is not None, architecture.name  # noqa: S101
        parameters = sum(each.numel() for each in built.parameters())
        yield name, heading[2], network.depth(built), f"{parameters:,}", heading[3]


def _photograph() -> NDArray[np.float64]:
    """Scikit-learn's photograph of a temple, in gray, half its sides."""
    photo = load_sample_image("china.jpg").astype(float)
    return np.asarray(formulas.gray(photo)[::2, ::2])


def _matrix(values: NDArray[np.generic], form: str = ".0f") -> str:
    width = max(len(format(value, form)) for value in values.ravel())
    return "\n".join(" ".join(format(value, form).rjust(width) for value in row) for row in values)


def _row(values: NDArray[np.generic]) -> str:
    return " ".join(f"{value:6.2f}" for value in values)


def _side_by_side(*matrices: NDArray[np.generic]) -> str:
    height = max(len(matrix) for matrix in matrices)
    rows = []
    for index in range(height):
        cells = [
            " ".join(f"{value:.0f}" for value in matrix[index]) if index < len(matrix) else ""
            for matrix in matrices
        ]
        rows.append(f"{cells[0]:12} {cells[1]:9} {cells[2]}".rstrip())
    return "\n".join(rows)


def _products(image: NDArray[np.generic], kernel: NDArray[np.generic]) -> str:
    pairs = zip(image.ravel(), kernel.ravel(), strict=True)
    return " + ".join(f"{pixel:.0f}·{weight:.0f}" for pixel, weight in pairs)
