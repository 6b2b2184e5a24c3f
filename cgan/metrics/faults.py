"""Mode collapse and disobeyed labels in plain words, one sentence per fault.

Each threshold marks what no healthy run shows, so that a sentence is always worth reading.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cgan.metrics.diversity import IntraClassDiversity
from cgan.metrics.label_fidelity import LabelFidelity

#: Below this share of the real images' deviation the samples of a class are one image.
CONSTANT_DEVIATION = 0.1
#: Below this share a class varies, but by less than half of what real images do.
NARROW_DEVIATION = 0.5
#: Above this share pixels vary more than real ones can: uniform noise lies above it.
NOISE_DEVIATION = 1.3
#: A class whose pairs are twins more often than this repeats fewer than about ten images.
TWIN_SHARE = 0.1
#: Labels count as ignored while the share read as asked is less than a tenth of the way from chance to one.
OBEDIENCE = 0.1
#: A class read as asked less often than this is more often wrong than right.
MISREAD_SHARE = 0.5
#: A label looks never trained, or a class missing, while readings of it are below this part of an even share.
UNSEEN_SHARE = 0.25
#: Coverage is judged from this many samples per class on: 100 samples do not miss one of 10 classes by chance.
COVERAGE_SAMPLES = 10
#: One reading that more than this share of all samples get crowds out the others (of three classes or more).
CROWDED_SHARE = 0.5


def describe_faults(
    fidelity: LabelFidelity | None, diversity: IntraClassDiversity, classes: int, predicted: Tensor
) -> list[str]:
    """Return what is wrong with samples, one sentence per fault; an empty list when they are healthy.

    ``fidelity`` None: an unconditional net, whose labels as read, ``predicted`` (n,), show which classes it covers.
    """
    faults = _diversity_faults(diversity)
    return faults + (_coverage_faults(predicted, classes) if fidelity is None else _fidelity_faults(fidelity, classes))


def _diversity_faults(diversity: IntraClassDiversity) -> list[str]:
    if not diversity.finite:
        return ["the samples hold numbers that are not finite: the net has diverged"]
    deviations, twins = diversity.per_class, diversity.twins
    constant = deviations < CONSTANT_DEVIATION
    few = ~constant & (twins > TWIN_SHARE)
    narrow = ~constant & ~few & (deviations < NARROW_DEVIATION)
    wide = ~few & (deviations > NOISE_DEVIATION)
    images = max(2, round(1 / float(twins[few].mean()))) if few.any() else 0
    faults = []
    for found, fault in (
        (constant, "constant images: {} are nearly alike (deviation {:.2f} of real ones)"),
        (few, f"few images: {{}} repeat about {images} images"),
        (narrow, "little diversity: {} vary {:.2f} times as much as real ones"),
        (
            wide,
            "too much diversity: {} vary {:.2f} times as much as real ones, as noise or images of other labels would",
        ),
    ):
        if found.any():
            whose = "the samples" if len(found) == 1 else f"the samples of {_labels_in_words(found)}"
            faults.append(fault.format(whose, float(deviations[found].mean())))
    return faults


def _fidelity_faults(fidelity: LabelFidelity, classes: int) -> list[str]:
    chance, counts = 1 / classes, fidelity.confusion.double()
    if classes > 1 and fidelity.share < chance + OBEDIENCE * (1 - chance):
        read = counts.sum(0) / counts.sum()
        top = int(read.argmax())
        crowded = f", and {read[top]:.0%} of all samples are read as {top}" if read[top] > CROWDED_SHARE else ""
        return [f"labels ignored: {fidelity.share:.0%} are read as asked, chance is {chance:.0%}{crowded}"]
    faults = []
    for label in range(classes):
        asked, share = counts[label].sum(), float(fidelity.per_class[label])
        if asked == 0 or share >= MISREAD_SHARE:
            continue
        row, rest = counts[label] / asked, counts.sum() - asked
        elsewhere = float((counts[:, label].sum() - counts[label, label]) / rest) if rest else 0.0
        row[label] = 0
        other = int(row.argmax())
        if max(share, elsewhere) < UNSEEN_SHARE * chance:
            faults.append(
                f"label {label} looks never trained: {share:.0%} of its samples and {elsewhere:.0%} of the rest are "
                f"read as {label}; its own are most often read as {other} ({row[other]:.0%})"
            )
        elif row[other] > share:
            faults.append(f"asked for {label}, mostly read as {other} ({row[other]:.0%})")
        else:
            faults.append(f"asked for {label}, read as {label} in only {share:.0%}, as {other} in {row[other]:.0%}")
    return faults


def _coverage_faults(predicted: Tensor, classes: int) -> list[str]:
    if len(predicted) < COVERAGE_SAMPLES * classes:
        return []
    shares = torch.bincount(predicted.cpu(), minlength=classes).double() / len(predicted)
    missing, top = shares < UNSEEN_SHARE / classes, int(shares.argmax())
    most = f"{shares[top]:.0%} are read as {top}"
    if missing.any():
        covered = f"only {classes - int(missing.sum())} of the {classes} classes"
        return [f"the samples cover {covered}: {_labels_in_words(missing)} missing, {most}"]
    return [f"the samples crowd into one class: {most}"] if classes > 2 and shares[top] > CROWDED_SHARE else []


def _labels_in_words(found: Tensor) -> str:
    *first, last = map(str, found.nonzero().flatten().tolist())
    if len(first) + 1 == len(found):
        return "every label"
    return f"labels {', '.join(first)} and {last}" if first else f"label {last}"
