"""Draw the loss curve of ``mini``: python -m experiments.train_mini.plot"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.train_mini.train import PHASES
from tta_bench.analysis.figures.style import panels, paper_style, save
from tta_bench.models.checkpoint import MINI_PATH


def loss_curve(log: pd.DataFrame) -> Figure:
    """Cross-entropy (nats per masked token) of each source against the step; the phases of the task mix begin at the lines."""
    with paper_style():
        figure, axes = panels(1, 1, height=2.4)
        axis = axes[0][0]
        for name in (c for c in log.columns if c not in ("step", "seconds", "sequences_per_second")):
            part = log.dropna(subset=[name])
            axis.plot(part["step"], part[name], label=name.replace("_", " "))
        for start, _ in PHASES[1:]:
            axis.axvline(start, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(xlabel="step", ylabel="loss (nats per masked token)", ylim=(0, None))
        axis.legend()
    return figure


if __name__ == "__main__":
    save(loss_curve(pd.read_json(MINI_PATH / "loss.jsonl", lines=True)), Path(__file__).parent, "loss")
