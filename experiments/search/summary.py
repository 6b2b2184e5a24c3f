"""Write the trial table, the plots and the winning preset of a search, from its trials so far."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs import figures
from experiments.runs.cli import write_preset
from experiments.runs.files import write_text
from experiments.search.space import Choice, Dimension, LogUniform, Space, distributions, with_values
from experiments.search.trials import OBJECTIVES, Plan, Trial, winner

TABLE, MARKDOWN, PLOT, BEST = "trials.csv", "trials.md", "trials.png", "best.json"

#: Trials with a score before the settings' importance is estimated.
ENOUGH = 8
#: Learning curves drawn in colour: those of the best trials.
COLOURED = 5


def write_tables(folder: Path, plan: Plan, space: Space, trials: Sequence[Trial], notice: str | None) -> None:
    """Write ``trials.csv``, ``trials.md`` and, once a trial has a score, ``best.json``."""
    write_csv(folder / TABLE, plan, space, trials)
    write_text(folder / MARKDOWN, markdown(folder.name, plan, space, trials, notice))
    best = winner(trials, plan.experiment)
    if best is not None:
        write_best(folder / BEST, folder.name, plan, best)


def write_best(path: Path, name: str, plan: Plan, best: Trial) -> None:
    """Write the winner as a preset's file: the preset with its settings, and the preset's own stopping."""
    column, words, _ = OBJECTIVES[plan.experiment]
    row = max(best.history, key=lambda row: row[column])
    write_preset(
        path,
        f"{name}-best",
        with_values(plan.config, best.values),
        f"The best of search {name}: trial {best.number}, {words} {row[column]:.4g} at epoch {row['epoch']:g}.",
        experiment=plan.experiment,
        search={
            "preset": plan.preset,
            "trial": best.number,
            "values": best.values,
            column: row[column],
            "epoch": row["epoch"],
            "state": best.state,
            "seed": plan.seed,
            "dataset": plan.dataset["name"],
        },
    )


def ordered(trials: Sequence[Trial], experiment: str) -> list[Trial]:
    """Return the trials, the best first; those that diverged, then those without a score, last."""

    def rank(trial: Trial) -> tuple[bool, float, int]:
        score = trial.bests(experiment)[-1] if trial.history else float("-inf")
        return trial.state in ("diverged", "crashed"), -score, trial.number

    return sorted(trials, key=rank)


def state_of(trial: Trial) -> str:
    """Return a trial's state in a word."""
    return trial.state if trial.over else "unfinished" if trial.history else "started"


def write_csv(path: Path, plan: Plan, space: Space, trials: Sequence[Trial]) -> None:
    """Write one row a trial, in their order, with every setting that was chosen."""
    column = OBJECTIVES[plan.experiment][0]
    text = io.StringIO()
    names = ["trial", "state", column, "best_epoch", "epochs", "seconds", "reason", *space]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        row: dict[str, Any] = {"trial": trial.number, "state": state_of(trial), "reason": trial.reason, **trial.values}
        if trial.history:
            best = max(trial.history, key=lambda row: row[column])
            last = trial.history[-1]
            row |= {
                column: best[column],
                "best_epoch": best["epoch"],
                "epochs": last["epoch"],
                "seconds": last["seconds"],
            }
        writer.writerow(row)
    write_text(path, text.getvalue())


def markdown(name: str, plan: Plan, space: Space, trials: Sequence[Trial], notice: str | None) -> str:
    """Return the table of trials in Markdown, the best first."""
    column, words, unit = OBJECTIVES[plan.experiment]
    count = {state: sum(state_of(trial) == state for trial in trials) for state in dict.fromkeys(map(state_of, trials))}
    best = winner(trials, plan.experiment)
    lines = [
        f"# Search {name}",
        "",
        f"{plan.experiment} {plan.preset} on {plan.dataset['name']}: {len(trials)} trials "
        f"({', '.join(f'{number} {state}' for state, number in count.items()) or 'none'}) of up to "
        f"{plan.estimates * plan.estimate_epochs} epochs, {plan.searcher}, seed {plan.seed}. The score is the best "
        f"{words}{f' in {unit}' if unit else ''}, estimated every {plan.estimate_epochs} epochs; from epoch "
        f"{plan.grace_epochs} on a trial is stopped when it is below what {plan.keep:.0%} of the others had reached. "
        "Nothing here was measured on test data.",
        "",
        *([f"NOTE: {notice.rstrip('.')}.", ""] if notice else []),
        *([f"Winner: trial {best.number}, as a preset in {BEST}.", ""] if best else []),
    ]
    varied = [setting for setting, dimension in space.items() if len(dimension.ends) > 1]
    head = ["trial", "score", "at epoch", "epochs", "state", *varied, "reason"]
    lines += ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for trial in ordered(trials, plan.experiment):
        cells = [str(trial.number), "", "", "", state_of(trial)]
        if trial.history:
            row = max(trial.history, key=lambda row: row[column])
            cells[1:4] = [f"{row[column]:.4g}", f"{row['epoch']:.4g}", f"{trial.history[-1]['epoch']:.4g}"]
        cells += [setting_text(trial.values.get(setting)) for setting in varied]
        lines.append("| " + " | ".join([*cells, trial.reason]).replace("\n", " ") + " |")
    fixed = {setting: dimension.ends[0] for setting, dimension in space.items() if len(dimension.ends) == 1}
    if fixed:
        lines += [
            "",
            "The same in all: "
            + ", ".join(f"{setting} {setting_text(value)}" for setting, value in fixed.items())
            + ".",
        ]
    return "\n".join(lines) + "\n"


def setting_text(value: Any) -> str:
    """Format a setting, with enough digits to distinguish a decay of 1.000004 from one of 1.00001."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------------------------------------
# The plot


def importance(space: Space, plan: Plan, trials: Sequence[Trial]) -> dict[str, float]:
    """Return how much each setting decides of a trial's rank, as shares of 1 (fANOVA: Hutter et al. 2014, by Optuna)

    By rank, since scores of diverged trials are far below all others. {} with fewer than ``ENOUGH`` trials.
    """
    import optuna
    from optuna.trial import create_trial

    scored = [trial for trial in ordered(trials, plan.experiment) if trial.history or trial.state == "diverged"]
    varied = {name: dimension for name, dimension in space.items() if len(dimension.ends) > 1}
    if len(scored) < ENOUGH or not varied:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, known = optuna.create_study(), distributions(varied)
    for rank, trial in enumerate(scored):
        values = {name: trial.values[name] for name in varied}
        study.add_trial(create_trial(value=float(rank), params=values, distributions=known))
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    return {name: float(share) for name, share in found.items()}


def draw(path: Path, plan: Plan, space: Space, trials: Sequence[Trial], title: str) -> None:
    """Draw learning curves, the settings' importance, and every trial as a line through its settings."""
    scored = [trial for trial in ordered(trials, plan.experiment) if trial.history]
    if not scored:
        return
    figure = figures.new_figure(13, 9.5)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.4, 1], height_ratios=[1, 1.1])
    curves, bars, lines = (figure.add_subplot(place) for place in (grid[0, 0], grid[0, 1], grid[1, :]))
    colours = {trial.number: figures.COLOURS[i] for i, trial in enumerate(scored[:COLOURED])}
    _draw_curves(curves, plan, scored, colours)
    _draw_importance(bars, importance(space, plan, trials))
    _draw_parallel(lines, plan, space, scored, colours)
    figures.save(figure, path, title)


def _draw_curves(plot: Any, plan: Plan, scored: Sequence[Trial], colours: Mapping[int, str]) -> None:
    _, words, unit = OBJECTIVES[plan.experiment]
    for trial in reversed(scored):
        colour = colours.get(trial.number)
        plot.plot(
            [row["epoch"] for row in trial.history],
            trial.scores(plan.experiment),
            color=colour or "#BBBBBB",
            linewidth=2 if colour else 1,
            marker="." if len(trial.history) == 1 else None,
            label=f"trial {trial.number}" if colour else None,
        )
    # Diverged nets lie thousands of nats below: begin some way below the median of the last scores.
    tops = sorted(trial.bests(plan.experiment)[-1] for trial in scored)
    top, middle = tops[-1], tops[len(tops) // 2]
    span = max(top - middle, 0.25 * abs(top), 1e-3)
    lowest = min(min(trial.scores(plan.experiment)) for trial in scored)
    plot.set_ylim(max(lowest, middle - 2 * span) - 0.05 * span, top + 0.1 * span)
    plot.axvline(plan.grace_epochs, color="black", linestyle=":", linewidth=1, label="none is stopped before")
    plot.set_xlabel("epoch")
    plot.set_ylabel(f"{words}{f' ({unit})' if unit else ''}")
    handles, labels = plot.get_legend_handles_labels()
    plot.legend(handles[::-1], labels[::-1], fontsize=8, loc="lower right")
    plot.set_title("Learning curves", fontsize=11)


def _draw_importance(plot: Any, shares: Mapping[str, float]) -> None:
    plot.set_title("How much each setting decides of a trial's rank", fontsize=11)
    if not shares:
        plot.text(0.5, 0.5, f"shown from {ENOUGH} trials on", ha="center", va="center", transform=plot.transAxes)
        plot.set_axis_off()
        return
    names = sorted(shares, key=shares.__getitem__)
    plot.barh(names, [shares[name] for name in names], color=figures.BAR_COLOUR)
    plot.set_xlabel("share of the variance between trials (fANOVA)")
    plot.tick_params(axis="y", labelsize=8)


def _draw_parallel(plot: Any, plan: Plan, space: Space, scored: Sequence[Trial], colours: Mapping[int, str]) -> None:
    varied = {name: dimension for name, dimension in space.items() if len(dimension.ends) > 1}
    for trial in reversed(scored):
        heights = [height(dimension, trial.values[name]) for name, dimension in varied.items()]
        # The last axis: the rank, the best on top.
        heights.append(1 - scored.index(trial) / max(len(scored) - 1, 1))
        colour = colours.get(trial.number)
        plot.plot(heights, color=colour or "#BBBBBB", linewidth=2 if colour else 0.8, zorder=3 if colour else 2)
    for axis, dimension in enumerate(varied.values()):
        plot.axvline(axis, color="black", linewidth=0.8)
        for value in dimension.ends:
            plot.text(axis + 0.02, height(dimension, value), setting_text(value), fontsize=7, va="center", zorder=4)
    plot.axvline(len(varied), color="black", linewidth=0.8)
    for trial in scored[:COLOURED]:
        place = 1 - scored.index(trial) / max(len(scored) - 1, 1)
        plot.text(
            len(varied) + 0.02, place, f"trial {trial.number}", fontsize=7, va="center", color=colours[trial.number]
        )
    names = [
        name.replace("discriminator.", "D.").replace("generator.", "G.").replace("training.", "") for name in varied
    ]
    plot.set_xticks(range(len(varied) + 1), [*names, "rank"], fontsize=8)
    plot.set_xlim(-0.1, len(varied) + 0.4)
    plot.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        plot.spines[side].set_visible(False)
    plot.set_title("Every trial as a line through its settings, the best in colour", fontsize=11)


def height(dimension: Dimension, value: Any) -> float:
    """Return where a value lies on its axis, from 0 to 1."""
    if isinstance(dimension, Choice):
        return dimension.values.index(value) / max(len(dimension.values) - 1, 1)
    low, high = dimension.low, dimension.high
    if isinstance(dimension, LogUniform):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)
