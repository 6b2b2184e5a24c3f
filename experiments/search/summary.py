"""Write the trial table, the plots and the winning preset of a search, from its trials so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from experiments.report.forms import as_csv
from experiments.runs import figures
from experiments.runs.files import write_json, write_text
from experiments.search.space import Space, with_values
from experiments.search.trials import OBJECTIVES, Plan, Trial, ranked, score, winner

TABLE, MARKDOWN, PLOT, BEST = "trials.csv", "trials.md", "trials.png", "best.json"

ENOUGH = 8  # Trials with a score before the settings' importance is estimated.
COLOURED, GREY = 5, "#BBBBBB"  # The best trials are drawn in colour.


def write_summary(folder: Path, plan: Plan, space: Space, trials: Sequence[Trial], notice: str | None) -> None:
    """Write ``trials.csv``, ``trials.md`` and, once a trial has a score, ``trials.png`` and ``best.json``."""
    write_text(folder / TABLE, as_csv(table(plan, space, trials)))
    write_text(folder / MARKDOWN, markdown(folder.name, plan, space, trials, notice))
    if any(trial.history for trial in trials):
        title = f"Search {folder.name} on {plan.dataset.name}: {len(trials)} trials"
        draw(folder / PLOT, plan, space, trials, title)
    if (best := winner(trials)) is not None:
        row, record = max(best.history, key=score), best.record
        reached = f"trial {record.number}, {plan.score_text(score(row))} at epoch {row['epoch']:g}"
        found = {
            "preset": plan.preset,
            "trial": record.number,
            "values": record.values,
            "state": record.state,
            OBJECTIVES[plan.experiment][0]: score(row),
            "epoch": row["epoch"],
            "seed": plan.seed,
            "dataset": plan.dataset.name,
        }
        best_preset = {  # In the form that ``cli.read_preset`` takes.
            "name": f"{folder.name}-best",
            "about": f"The best of search {folder.name}: {reached}.",
            "experiment": plan.experiment,
            "search": found,
            "settings": with_values(plan.config, record.values).as_dict(),
        }
        write_json(folder / BEST, best_preset)


def varied(space: Space) -> Space:
    """Return the fields of which there is a choice."""
    return {name: distribution for name, distribution in space.items() if not distribution.single()}


def table(plan: Plan, space: Space, trials: Sequence[Trial]) -> pd.DataFrame:
    """Return a row for each trial, with the settings of ``space``."""
    rows, column = [], OBJECTIVES[plan.experiment][0]
    for trial in trials:
        record, row = trial.record, dict[str, Any]()
        state = record.state if trial.over else "unfinished" if trial.history else "started"
        if trial.history:
            best, last = max(trial.history, key=score), trial.history[-1]
            row = {column: score(best), "best_epoch": best["epoch"], "epochs": last["epoch"]}
            row["seconds"] = last["seconds"]
        rows.append({"trial": record.number, "state": state, **row, "reason": record.reason, **record.values})
    columns = ["trial", "state", column, "best_epoch", "epochs", "seconds", "reason", *space]
    return pd.DataFrame(rows, columns=columns)


def markdown(name: str, plan: Plan, space: Space, trials: Sequence[Trial], notice: str | None) -> str:
    """Return the table of trials in Markdown, the best first, without the settings that are the same in all."""
    _, words, unit = OBJECTIVES[plan.experiment]
    rows, best = table(plan, varied(space), ranked(trials)), winner(trials)
    counts = ", ".join(f"{count} {state}" for state, count in Counter(rows["state"]).items())
    lines = [
        f"# Search {name}",
        f"{plan.experiment} {plan.preset} on {plan.dataset.name}: {len(trials)} trials ({counts or 'none'}) of up to "
        f"{plan.epochs} epochs, {plan.searcher}, seed {plan.seed}. The score is the best "
        f"{words}{f' in {unit}' if unit else ''}, estimated every {plan.estimate_epochs} epochs; from epoch "
        f"{plan.grace_epochs} on a trial is stopped when it is below what {plan.keep:.0%} of the others had reached. "
        f"Everything here was measured on {plan.measured_on}, nothing on test data.",
    ]
    lines += [f"NOTE: {notice.rstrip('.')}."] if notice else []
    lines += [f"Winner: trial {best.record.number}, as a preset in {BEST}."] if best else []
    # Enough digits to distinguish a decay of 1.000004 from one of 1.00001.
    lines.append(rows.astype(object).where(rows.notna(), "").to_markdown(index=False, floatfmt=".7g"))
    return "\n\n".join(lines) + "\n"


def importance(space: Space, trials: Sequence[Trial]) -> dict[str, float]:
    """Return how much each setting decides of a trial's rank, as shares of 1 (fANOVA: Hutter et al. 2014, by Optuna).

    By rank, since scores of diverged trials are far below all others. {} with fewer than ``ENOUGH`` trials.
    """
    chosen = varied(space)
    scored = [trial for trial in ranked(trials) if trial.history or trial.record.state == "diverged"]
    if len(scored) < ENOUGH or not chosen:
        return {}
    study = optuna.create_study()
    for rank, trial in enumerate(scored):
        values = {name: trial.record.values[name] for name in chosen}
        study.add_trial(create_trial(value=float(rank), params=values, distributions=chosen))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw(path: Path, plan: Plan, space: Space, trials: Sequence[Trial], title: str) -> None:
    """Draw learning curves, the settings' importance, and the scores against each setting."""
    _, words, unit = OBJECTIVES[plan.experiment]
    scored, chosen = [trial for trial in ranked(trials) if trial.history], varied(space)
    colours = [*figures.COLOURS[:COLOURED], *[GREY] * len(scored)][: len(scored)]
    figure = figures.new_figure(13, 10)
    grid = figure.add_gridspec(3, max(4, -(-len(chosen) // 2)), height_ratios=[1.6, 1, 1])
    curves, bars = figure.add_subplot(grid[0, :2]), figure.add_subplot(grid[0, 2:])
    for trial, colour in zip(reversed(scored), reversed(colours), strict=True):
        epochs, scores = [row["epoch"] for row in trial.history], [*map(score, trial.history)]
        label = None if colour == GREY else f"trial {trial.record.number}"
        curves.plot(epochs, scores, ".-", color=colour, label=label)
    curves.axvline(plan.grace_epochs, color="black", linestyle=":", label="none is stopped before")
    curves.set_ylabel(f"{words}{f' ({unit})' if unit else ''}")
    curves.set_xlabel("epoch")
    curves.set_title("Learning curves", fontsize=11)
    bests = [trial.bests[-1] for trial in scored]
    figures.cut_low(curves, np.array(bests))  # Diverged nets lie thousands of nats below.
    curves.legend(fontsize=8, loc="lower right")

    shares = importance(space, trials)
    bars.set_title("How much each setting decides of a trial's rank", fontsize=11)
    bars.set_xlabel(f"share of the variance between trials (fANOVA), from {ENOUGH} trials on")
    bars.barh([*shares][::-1], [*shares.values()][::-1], color=figures.BAR_COLOUR)
    bars.tick_params(axis="y", labelsize=8)
    for place, (name, distribution) in enumerate(chosen.items()):
        row, column = divmod(place, grid.ncols)
        plot = figure.add_subplot(grid[row + 1, column], sharey=curves)
        values = [trial.record.values[name] for trial in scored]
        if isinstance(distribution, CategoricalDistribution):
            plot.scatter([str(value).replace(" ", "\n") for value in values], bests, c=colours)
            plot.tick_params(axis="x", rotation=20)
        else:
            plot.scatter(values, bests, c=colours)
            plot.set_xscale("log" if distribution.log else "linear")  # type: ignore[attr-defined]
        plot.tick_params(labelsize=7)
        plot.set_xlabel(name, fontsize=8)
    figures.save(figure, path, title)
