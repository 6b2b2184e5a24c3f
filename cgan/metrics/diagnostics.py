"""What samples are worth beyond likelihood: obeyed labels, variety, what D accepts, nearest training images.

Works on arrays, integer labels and callables; reads no files, draws no figures and knows no data set by name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cgan import CganError

# ----------------------------------------------------------------------------------------------------
# Thresholds of ``verdict``. Each marks what no healthy run shows, so that a sentence is always worth reading.

#: Below this share of the real images' deviation the samples of a class are one image: real classes are at 1,
#: a trained net's near it, and a net that maps all noise to one image is at 0.
CONSTANT_DEVIATION = 0.1
#: Below this share the class varies, but by less than half of what real images do.
NARROW_DEVIATION = 0.5
#: Above this share the pixels vary more than real ones can: uniform noise lies above it, real images at 1.
NOISE_DEVIATION = 1.3
#: Two samples are twins when their root mean square pixel difference is below this share of the real
#: deviation; two different real images differ by about 1.4 times that deviation or more.
TWIN_DISTANCE = 0.1
#: A class whose pairs are twins more often than this repeats fewer than about ten images.
TWIN_SHARE = 0.1
#: Images of a class compared pairwise for twins: 19,900 pairs show a share of 1% and cost milliseconds.
TWIN_IMAGES = 200
#: Labels count as ignored while the share read as asked is less than a tenth of the way from chance to one.
OBEDIENCE = 0.1
#: A class read as asked less often than this is more often wrong than right.
MISREAD_SHARE = 0.5
#: A label looks never trained, or a class missing, while readings of it are below this part of an even share:
#: above a good classifier's mistakes, below what any real class gets.
UNSEEN_SHARE = 0.25
#: Coverage is judged from this many samples per class: 100 samples do not miss one of 10 classes by chance.
COVERAGE_SAMPLES = 10
#: One reading that more than this share of all samples get crowds out the others (of three classes or more).
CROWDED_SHARE = 0.5


# ----------------------------------------------------------------------------------------------------
# Does a sample look like the label it was asked for?


class Classifier(nn.Module):
    """A plain ReLU net that reads the class of an image; ``state_dict()`` is a flat dict of float32 tensors.

    Args:
        sizes: units per layer, the pixels d first and the classes last.

    A new one is all zeros; ``train_classifier`` and ``classifier_from_state`` fill it.
    """

    layers: nn.ModuleList
    mean: Tensor
    scale: Tensor

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, inputs, outputs) for inputs, outputs in pairwise(sizes)
        )
        self.register_buffer("mean", torch.zeros(sizes[0]))
        self.register_buffer("scale", torch.ones(()))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, d)."""
        hidden = (images - self.mean) / self.scale
        for layer in self.layers[:-1]:
            hidden = layer(hidden).relu()
        return self.layers[-1](hidden)


def classifier_from_state(state: dict[str, Tensor]) -> Classifier:
    """The classifier whose ``state_dict()`` this is; the layer sizes are read off the tensors.

    Raises:
        CganError: the tensors are not a classifier's.
    """
    try:
        weights = [state[f"layers.{i}.weight"] for i in range(sum(name.endswith(".weight") for name in state))]
        classifier = Classifier((weights[0].shape[1], *(weight.shape[0] for weight in weights)))
        classifier.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise CganError(
            "these tensors are not the state of a diagnostics.Classifier; train one with train_classifier"
        ) from error
    return classifier.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def train_classifier(
    images: Tensor,
    labels: Tensor,
    classes: int,
    *,
    seed: int,
    updates: int | None = None,
    batch: int = 250,
    hidden: tuple[int, ...] = (512, 256),
    learning_rate: float = 3e-3,
    progress: bool = False,
) -> Classifier:
    """Train the classifier that judges samples, on real images, on the CPU.

    Adam with a warm-up over the first tenth of the updates and a linear decay to zero. It runs on one thread, so
    that the same seed gives the same weights however many the machine has, and so that a busy machine does not
    stall such small products; the global random state stays untouched.

    Args:
        images: (n, d) float in [0, 1].
        labels: (n,) integers in [0, classes).
        classes: how many labels there are.
        seed: of the initial weights and of the order of the images.
        updates: parameter updates; by default six passes over the images, but no fewer than 300.
        batch: images per update (all of them when there are fewer).
        hidden: units of the hidden layers.
        learning_rate: the highest one.
        progress: show a bar on stderr.

    Raises:
        CganError: shapes or labels do not fit.
    """
    images = _images(images, "images").cpu()
    labels = _labels(labels, len(images), classes, "labels").cpu()
    batch = min(batch, len(images))
    if updates is None:
        updates = max(300, 6 * len(images) // batch)

    generator = torch.Generator().manual_seed(seed)
    classifier = Classifier((images.shape[1], *hidden, classes))
    with torch.no_grad():
        for layer in classifier.layers:
            assert isinstance(layer, nn.Linear)
            # He et al. (2015): variance 2 / inputs keeps the scale of the signal through ReLU layers.
            normal = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(normal * math.sqrt(2 / layer.in_features))
        classifier.mean.copy_(images.mean(0))
        classifier.scale.copy_((images - classifier.mean).std().clamp_min(1e-6))

    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate, fused=True)
    order, position = torch.empty(0, dtype=torch.int64), 0
    for update in _bar(updates, "classifier", progress):
        if position + batch > len(order):
            order, position = torch.randperm(len(images), generator=generator), 0
        chosen = order[position : position + batch]
        position += batch
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min((update + 1) / (0.1 * updates), 1.0) * (1 - update / updates)
        optimizer.zero_grad()
        F.cross_entropy(classifier(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return classifier.eval()


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, batch: int = 5_000) -> Tensor:
    """The label (n,) int64 that the classifier reads in each of images (n, d) in [0, 1], on their device."""
    images = _images(images, "images")
    device = classifier.mean.device
    return torch.cat([classifier(block.to(device)).argmax(1) for block in images.split(batch)]).to(images.device)


@dataclass(frozen=True, eq=False)
class LabelFidelity:
    """How often a sample is read as the label it was asked for.

    Attributes:
        share: of all samples, in [0, 1]; chance is 1 / classes.
        per_class: (classes,) float64, the same by the label asked for; NaN where none was asked for.
        confusion: (classes, classes) int64 counts, row = asked for, column = read as.
    """

    share: float
    per_class: Tensor
    confusion: Tensor

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; None where there is no number."""
        return {
            "share": _plain(self.share),
            "per_class": _plain(self.per_class),
            "confusion": self.confusion.tolist(),
        }


def label_fidelity(predicted: Tensor, asked: Tensor, classes: int) -> LabelFidelity:
    """Compare the labels read in samples (n,) with the labels asked for (n,).

    Raises:
        CganError: lengths differ, there are none, or a label is not in [0, classes).
    """
    predicted = _labels(predicted, len(predicted), classes, "predicted").cpu()
    asked = _labels(asked, len(predicted), classes, "asked").cpu()
    confusion = torch.bincount(asked * classes + predicted, minlength=classes**2).reshape(classes, classes)
    right, total = confusion.diagonal().double(), confusion.sum(1).double()
    return LabelFidelity(float(right.sum() / total.sum()), right / total, confusion)


# ----------------------------------------------------------------------------------------------------
# Do samples of one label differ from one another?


@dataclass(frozen=True, eq=False)
class Variety:
    """How much samples of one label differ, real images being 1.

    Attributes:
        overall: mean of ``per_class`` over the classes that have one; NaN when none has.
        per_class: (classes,) float64, mean pixel deviation of the samples over that of real images; (1,) when
            the samples carry no label. NaN for a class of fewer than two samples or two real images.
        twins: shaped alike, in [0, 1]: the share of pairs of samples of one label that are nearly one image.
            Few images shown in turn have a healthy deviation, but with m of them one pair in m are twins.
        finite: every pixel of every sample is a finite number.
    """

    overall: float
    per_class: Tensor
    twins: Tensor
    finite: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; None where there is no number."""
        return {
            "overall": _plain(self.overall),
            "per_class": _plain(self.per_class),
            "twins": _plain(self.twins),
            "finite": self.finite,
        }


def real_deviation(images: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Standard deviation of each pixel within a class, averaged over pixels: (classes,) float64, pixel units.

    Args:
        images: (n, d) float in [0, 1].
        labels: (n,) integers in [0, classes), or None: all images as one class, giving (1,).
        classes: how many labels there are.

    A class of fewer than two images gets NaN.
    """
    images = _images(images, "images")
    return torch.stack([_deviation(members) for members in _by_class(images, labels, classes, "labels")])


def within_class_variety(
    samples: Tensor, asked: Tensor | None, real_images: Tensor, real_labels: Tensor | None, classes: int
) -> Variety:
    """``variety`` with its real side computed on the spot; when repeated, compute ``real_deviation`` once."""
    labels = None if asked is None else real_labels
    return variety(samples, asked, real_deviation(real_images, labels, classes), classes)


def variety(samples: Tensor, asked: Tensor | None, real: Tensor, classes: int) -> Variety:
    """Within-class deviation of samples as a share of the real images'; see ``Variety``.

    Args:
        samples: (n, d) float in [0, 1].
        asked: (n,) labels asked for, or None for an unconditional net: all samples as one class.
        real: what ``real_deviation`` gave, with labels if ``asked`` has them and without if it has not.
        classes: how many labels there are.

    Raises:
        CganError: shapes or labels do not fit.
    """
    samples = _images(samples, "samples")
    groups = _by_class(samples, asked, classes, "asked")
    if real.shape != (len(groups),):
        raise CganError(
            f"real has the shape {tuple(real.shape)} where ({len(groups)},) is needed; compute it by "
            f"real_deviation {'without' if asked is None else 'with'} labels"
        )
    per_class = torch.stack([_deviation(members) for members in groups]) / real.cpu()
    twins = torch.stack([_twins(members, float(deviation)) for members, deviation in zip(groups, real, strict=True)])
    known = per_class[~per_class.isnan()]
    overall = float(known.mean()) if len(known) else math.nan
    return Variety(overall, per_class, twins, bool(samples.isfinite().all()))


def _deviation(images: Tensor) -> Tensor:
    """Standard deviation over images (n, d), averaged over pixels: a float64 scalar, NaN for n < 2."""
    if len(images) < 2:
        return torch.tensor(math.nan, dtype=torch.float64)
    return images.std(0).cpu().double().mean()


def _twins(images: Tensor, deviation: float) -> Tensor:
    """Share of pairs in images (n, d) with a root mean square difference under TWIN_DISTANCE * deviation."""
    if len(images) < 2:
        return torch.tensor(math.nan, dtype=torch.float64)
    # Evenly spread, in case the samples come sorted.
    spread = images[:: -(-len(images) // TWIN_IMAGES)].cpu()
    distances = torch.pdist(spread) / math.sqrt(images.shape[1])
    return (distances < TWIN_DISTANCE * deviation).double().mean()


# ----------------------------------------------------------------------------------------------------
# Collapse in plain words


def verdict(
    fidelity: LabelFidelity | None,
    variety: Variety | None,
    classes: int,
    *,
    predicted: Tensor | None = None,
) -> list[str]:
    """What is wrong with the samples, one sentence per fault; empty when they are healthy.

    Args:
        fidelity: of the samples' labels; None for an unconditional net.
        variety: of the samples; None leaves that side out.
        classes: how many labels there are.
        predicted: (n,) the labels read in the samples of an unconditional net, to see which classes they
            cover; real images are taken to show all classes about equally often.
    """
    faults: list[str] = []
    if variety is not None:
        faults += _variety_faults(variety)
    if fidelity is not None:
        faults += _fidelity_faults(fidelity, classes)
    elif predicted is not None:
        faults += _coverage_faults(predicted, classes)
    return faults


def _variety_faults(variety: Variety) -> list[str]:
    if not variety.finite:
        return ["the samples hold numbers that are not finite: the net has diverged"]
    deviations, twins = variety.per_class, variety.twins
    constant = deviations < CONSTANT_DEVIATION
    few = ~constant & (twins > TWIN_SHARE)
    narrow = ~constant & ~few & (deviations < NARROW_DEVIATION)
    wide = ~few & (deviations > NOISE_DEVIATION)

    def whose(found: Tensor) -> str:
        return "the samples" if len(found) == 1 else f"the samples of {_labels_in_words(found)}"

    def times(found: Tensor) -> str:
        return f"{float(deviations[found].mean()):.2f}"

    faults = []
    if constant.any():
        faults.append(
            f"constant images: {whose(constant)} are nearly alike (pixel deviation {times(constant)} of real ones')"
        )
    if few.any():
        images = max(2, round(1 / float(twins[few].mean())))
        faults.append(f"few images: {whose(few)} repeat about {images} images")
    if narrow.any():
        faults.append(f"little variety: {whose(narrow)} vary {times(narrow)} times as much as real ones")
    if wide.any():
        faults.append(
            f"too much variety: {whose(wide)} vary {times(wide)} times as much as real ones, "
            "as noise or images of other labels would"
        )
    return faults


def _fidelity_faults(fidelity: LabelFidelity, classes: int) -> list[str]:
    chance = 1 / classes
    counts = fidelity.confusion.double()
    read = counts.sum(0) / counts.sum()
    if classes > 1 and fidelity.share < chance + OBEDIENCE * (1 - chance):
        fault = f"labels ignored: {fidelity.share:.0%} are read as asked, chance is {chance:.0%}"
        top = int(read.argmax())
        return [
            fault + (f", and {read[top]:.0%} of all samples are read as {top}" if read[top] > CROWDED_SHARE else "")
        ]
    faults = []
    for label in range(classes):
        asked = counts[label].sum()
        share = float(fidelity.per_class[label])
        if asked == 0 or share >= MISREAD_SHARE:
            continue
        row = counts[label] / asked
        others = counts.sum() - asked
        elsewhere = float((counts[:, label].sum() - counts[label, label]) / others) if others else 0.0
        row[label] = 0
        other = int(row.argmax())
        if share < UNSEEN_SHARE * chance and elsewhere < UNSEEN_SHARE * chance:
            faults.append(
                f"label {label} looks never trained, or lost: {share:.0%} of its samples and {elsewhere:.0%} of "
                f"the others' are read as {label}; its own are most often read as {other} ({row[other]:.0%})"
            )
        elif row[other] > share:
            faults.append(f"asked for {label}, mostly read as {other} ({row[other]:.0%})")
        else:
            faults.append(f"asked for {label}, read as {label} in only {share:.0%}, as {other} in {row[other]:.0%}")
    return faults


def _coverage_faults(predicted: Tensor, classes: int) -> list[str]:
    predicted = _labels(predicted, len(predicted), classes, "predicted").cpu()
    if len(predicted) < COVERAGE_SAMPLES * classes:
        return []
    shares = torch.bincount(predicted, minlength=classes).double() / len(predicted)
    missing = shares < UNSEEN_SHARE / classes
    top = int(shares.argmax())
    if missing.any():
        covered, absent = classes - int(missing.sum()), _labels_in_words(missing)
        return [
            f"the samples cover only {covered} of the {classes} classes: {absent} missing, "
            f"{shares[top]:.0%} are read as {top}"
        ]
    if classes > 2 and shares[top] > CROWDED_SHARE:
        return [f"the samples crowd into one class: {shares[top]:.0%} are read as {top}"]
    return []


def _labels_in_words(found: Tensor) -> str:
    """The labels (classes,) that are true, in words."""
    labels = found.nonzero().flatten().tolist()
    if len(labels) == len(found):
        return "every label"
    if len(labels) == 1:
        return f"label {labels[0]}"
    return f"labels {', '.join(map(str, labels[:-1]))} and {labels[-1]}"


# ----------------------------------------------------------------------------------------------------
# What does D accept?


@dataclass(frozen=True, eq=False)
class AcceptanceMatrix:
    """What D says of real and of generated images, with their own and with wrong labels.

    Attributes:
        mean: (2, 2) float64, the mean of D in [0, 1]; rows real, generated; columns own label, wrong label.
        accepted: (2, 2) float64, the share of images with D > 0.5; same rows and columns.
        by_label_real: (classes, classes) float64, mean D of real images of class i shown with label j; NaN in
            the row of a class without images.
        by_label_fake: the same of generated images, i being the label they were asked for.
    """

    mean: Tensor
    accepted: Tensor
    by_label_real: Tensor
    by_label_fake: Tensor

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; None where there is no number."""
        return {
            "rows": ["real", "fake"],
            "columns": ["own label", "wrong label"],
            "mean": _plain(self.mean),
            "accepted": _plain(self.accepted),
            "by_label_real": _plain(self.by_label_real),
            "by_label_fake": _plain(self.by_label_fake),
        }


@torch.no_grad()
def acceptance_matrix(
    accept_logits: Callable[[Tensor, Tensor], Tensor],
    real_images: Tensor,
    real_labels: Tensor,
    fake_images: Tensor,
    fake_labels: Tensor,
    classes: int,
    *,
    generator: torch.Generator,
    per_class: int = 100,
    batch: int = 1_000,
) -> AcceptanceMatrix:
    """Measure what D accepts: {real, generated} images x {own label, a wrong one}.

    A generated image's own label is the one it was asked for. A wrong label is drawn uniformly among the
    other classes, once per image, for the real images first. The original game never shows D a real image
    with a wrong label, so what D says there is not trained for.

    Args:
        accept_logits: D before its sigmoid, dropout off: images (n, d), labels (n,) to logits (n,) or (n, 1).
        real_images: (n, d), in the range that D was trained on.
        real_labels: (n,) integers in [0, classes).
        fake_images: (m, d), in the same range.
        fake_labels: (m,) integers in [0, classes).
        classes: how many labels there are, at least two.
        generator: CPU generator of the wrong labels.
        per_class: images of each class, the first ones, that the two ``by_label`` matrices use.
        batch: most images in one call of D.

    Raises:
        CganError: shapes or labels do not fit, or there is no other label to draw.
    """
    if classes < 2:
        raise CganError(f"classes is {classes}: a wrong label needs at least two classes")
    mean = torch.empty(2, 2, dtype=torch.float64)
    accepted = torch.empty(2, 2, dtype=torch.float64)
    by_label = torch.full((2, classes, classes), math.nan, dtype=torch.float64)

    def acceptance(images: Tensor, labels: Tensor) -> Tensor:
        blocks = zip(images.split(batch), labels.split(batch), strict=True)
        return torch.cat([accept_logits(x, y).reshape(len(x)) for x, y in blocks]).cpu().double().sigmoid()

    sides = (("real", real_images, real_labels), ("fake", fake_images, fake_labels))
    for row, (name, images, labels) in enumerate(sides):
        images = _images(images, f"{name}_images")
        labels = _labels(labels, len(images), classes, f"{name}_labels")
        step = torch.randint(1, classes, (len(labels),), generator=generator).to(labels.device)
        for column, shown in enumerate((labels, (labels + step) % classes)):
            d = acceptance(images, shown)
            mean[row, column] = d.mean()
            accepted[row, column] = (d > 0.5).double().mean()
        for own, members in enumerate(_by_class(images, labels, classes, f"{name}_labels")):
            members = members[:per_class]
            for label in range(classes if len(members) else 0):
                by_label[row, own, label] = acceptance(members, labels.new_full((len(members),), label)).mean()
    return AcceptanceMatrix(mean, accepted, by_label[0], by_label[1])


# ----------------------------------------------------------------------------------------------------
# Are samples new, and is there more in them than a picture?


@torch.no_grad()
def nearest_neighbours(queries: Tensor, references: Tensor, k: int, *, block: int = 256) -> tuple[Tensor, Tensor]:
    """The k references nearest to each query by Euclidean distance, nearest first.

    Candidates come from |q|^2 - 2 q.r + |r|^2 on centred float32 data, ``block`` queries at a time; their
    distances are then recomputed from the differences, so that a query found among the references is at
    distance 0 exactly.

    Args:
        queries: (m, d) float.
        references: (n, d) float, n >= k.
        k: neighbours per query, at least 1.
        block: queries at a time; memory is block x n float32 numbers.

    Returns:
        indices (m, k) int64 into ``references`` and distances (m, k) float32, in pixel units.

    Raises:
        CganError: shapes do not fit or k is not in [1, n].
    """
    queries, references = _images(queries, "queries"), _images(references, "references")
    if queries.shape[1] != references.shape[1]:
        raise CganError(f"queries have {queries.shape[1]} numbers each and references {references.shape[1]}")
    if not 1 <= k <= len(references):
        raise CganError(f"k is {k}, and there are {len(references)} references; choose k in between")
    centre = references.mean(0)
    centred = references - centre
    squares = centred.square().sum(1)
    # A few more than k, so that rounding in the expansion cannot push a true neighbour out.
    candidates = min(len(references), k + 8)
    indices, distances = [], []
    for part in queries.split(block):
        q = part - centre
        near = (squares - 2 * q @ centred.T).topk(candidates, dim=1, largest=False).indices
        exact = (part[:, None] - references[near]).square().sum(2).sqrt()
        nearest, order = exact.topk(k, dim=1, largest=False)
        indices.append(near.gather(1, order))
        distances.append(nearest)
    return torch.cat(indices), torch.cat(distances)


def train_on_generated(
    samples: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    seed: int,
    max_train: int = 10_000,
) -> float:
    """Train a classifier on generated images; its accuracy on real test images, in [0, 1].

    The same call on real training images gives what to compare with. Logistic regression (scikit-learn) on
    standardised pixels.

    Args:
        samples: (n, d) float in [0, 1].
        labels: (n,) integers, the labels asked for.
        test_images: (m, d) float in [0, 1].
        test_labels: (m,) integers.
        seed: which samples are taken when there are more than ``max_train``.
        max_train: most samples to train on.

    Raises:
        CganError: shapes do not fit, a sample is not finite, or all have one label.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    samples, test_images = _images(samples, "samples"), _images(test_images, "test_images")
    if labels.shape != (len(samples),) or test_labels.shape != (len(test_images),):
        raise CganError(
            f"labels {tuple(labels.shape)} and test_labels {tuple(test_labels.shape)} must hold one label for each "
            f"of {len(samples)} samples and {len(test_images)} test images"
        )
    if not samples.isfinite().all():
        raise CganError("samples hold numbers that are not finite: the net has diverged; sample from an earlier one")
    if len(labels.unique()) < 2:
        raise CganError("labels are all the same: a classifier needs samples of at least two classes")
    chosen = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))[:max_train]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples.cpu()[chosen].numpy(), labels.cpu()[chosen].numpy())
    return float(model.score(test_images.cpu().numpy(), test_labels.cpu().numpy()))


def interpolate(start: Tensor, end: Tensor, steps: int, *, spherical: bool = False) -> Tensor:
    """Noise between two points: (steps, d), the first row ``start`` (d,) and the last ``end`` (d,).

    Linear for uniform noise, whose cube is convex. For Gaussian noise ``spherical`` keeps the length of the
    vectors, which a straight line shortens to where hardly any noise is drawn.

    Raises:
        CganError: shapes do not fit or steps < 2.
    """
    if start.ndim != 1 or start.shape != end.shape:
        raise CganError(f"start {tuple(start.shape)} and end {tuple(end.shape)} must both be (d,)")
    if steps < 2:
        raise CganError(f"steps is {steps}; interpolation needs at least 2, both ends included")
    t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    if spherical:
        angle = F.cosine_similarity(start, end, dim=0).clamp(-1, 1).acos()
        if angle.sin() > 1e-3:  # (anti)parallel vectors have no one arc between them; the straight line serves
            return (((1 - t) * angle).sin() * start + (t * angle).sin() * end) / angle.sin()
    return torch.lerp(start, end, t)


# ----------------------------------------------------------------------------------------------------
# Shared checks


def _images(images: Tensor, name: str) -> Tensor:
    if images.ndim != 2 or len(images) == 0:
        raise CganError(f"{name} has the shape {tuple(images.shape)}; (n, d) with n > 0 is needed: flatten the images")
    return images.detach().float()


def _labels(labels: Tensor, count: int, classes: int, name: str) -> Tensor:
    if labels.shape != (count,) or count == 0:
        raise CganError(f"{name} has the shape {tuple(labels.shape)}; one label for each of {count} images is needed")
    if labels.is_floating_point() or labels.min() < 0 or labels.max() >= classes:
        raise CganError(f"{name} must be integers from 0 to {classes - 1}")
    return labels.detach().long()


def _by_class(images: Tensor, labels: Tensor | None, classes: int, name: str) -> list[Tensor]:
    """The images of each class in their order; one group of all when there are no labels."""
    if labels is None:
        return [images]
    labels = _labels(labels, len(images), classes, name).to(images.device)
    return [images[labels == label] for label in range(classes)]


def _plain(value: Tensor | float) -> Any:
    """Numbers for JSON, which has no NaN: None in its place."""
    if isinstance(value, Tensor) and value.ndim:
        return [_plain(item) for item in value]
    return float(value) if math.isfinite(value) else None


def _bar(total: int, what: str, shown: bool) -> Any:
    if not shown:
        return range(total)
    from tqdm import tqdm

    return tqdm(range(total), desc=what, unit="update", disable=None)
