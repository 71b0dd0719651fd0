"""Measure what kept keys and values change: decode the same problems with and without, and count what differs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tta_bench import cli
from tta_bench.analysis import stats
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.execute import Effort
from tta_bench.runner.preview import Preview, preview
from tta_bench.runner.settings import comparison
from tta_bench.runner.study import model_source

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """A task cut into blocks.

    Attributes:
        task: by name.
        words: overrides of the configuration.
        steps: of the whole answer: a token a step, and fewer.
    """

    task: str
    words: tuple[str, ...]
    steps: tuple[int, int]


SETTINGS = (
    Setting("json", ("block_length=8",), (48, 24)),
    Setting("sudoku", ("block_length=6",), (24, 12)),
    Setting("listops", ("block_length=5",), (10, 4)),
    Setting("arithmetic", ("block_length=3",), (9, 6)),
)
SAMPLERS = ("low_confidence", "threshold", "tta")
CACHES = ("prefix", "dual")


def decoded(setting: Setting, sampler: str, cache: str, steps: int, n: int) -> Preview:
    """The answers to the first ``n`` dev problems."""
    words = [f"task={setting.task}", *setting.words, f"sampler={sampler}", f"sampler.cache={cache}", f"steps={steps}"]
    baseline = "random" if sampler == "low_confidence" else "low_confidence"  # a comparison has two sides; this one is not run
    found = comparison(cli.compose([*words, f"sampler@baseline={baseline}", f"n_problems={n}", "split=dev", "device=cpu"]))
    loaded: LoadedModel = model_source(found.model, found.device, found.candidate.dtype).get()
    return preview(found.candidate, found.task, found.problems, loaded, Effort(64))


def rows(n: int) -> Iterator[dict[str, Any]]:
    """One for each setting, sampler, number of steps and cache."""
    for setting in SETTINGS:
        for sampler in SAMPLERS:
            for steps in setting.steps if sampler == "low_confidence" else setting.steps[:1]:
                plain = decoded(setting, sampler, "none", steps, n)
                for cache in CACHES:
                    cached = decoded(setting, sampler, cache, steps, n)
                    yield row(setting.task, sampler, cache, plain, cached)


def row(task: str, sampler: str, cache: str, plain: Preview, cached: Preview) -> dict[str, Any]:
    """What differs between the answers with and without a cache."""
    pairs = list(zip(plain.tokens, cached.tokens, strict=True))
    changed = np.array([float(one != other) for one, other in pairs])
    tokens = [a != b for one, other in pairs for a, b in zip(one, other, strict=True)]
    flips = stats.proportion_interval(changed, 0.95)
    scores = stats.paired_comparison(np.array(plain.scores)[:, None], np.array(cached.scores)[:, None])
    evaluated = [sum(record["evaluated_positions"] for record in side.records) for side in (plain, cached)]
    return {
        "task": task,
        "sampler": sampler,
        "passes": plain.passes,
        "cached_passes": cached.passes,
        "cache": cache,
        "answers_changed": changed.mean(),
        "answers_changed_low": flips.ci_low,
        "answers_changed_high": flips.ci_high,
        "tokens_changed": float(np.mean(tokens)),
        "score": float(np.mean(plain.scores)),
        "cached_score": float(np.mean(cached.scores)),
        "delta": scores.delta,
        "delta_low": scores.ci_low,
        "delta_high": scores.ci_high,
        "evaluated": evaluated[1] / evaluated[0],
        "n_problems": len(pairs),
    }


def table(frame: pd.DataFrame) -> str:
    """The rows as Markdown, in per cent."""
    lines = [
        "| task | sampler | passes | cache | answers changed [95 %] | tokens changed | score without | with | delta [95 %] | "
        "positions evaluated |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in frame.to_dict("records"):
        r = {str(key): value if isinstance(value, str) else 100 * value for key, value in found.items()}
        passes = f"{found['passes']:.3g}"
        if passes != f"{found['cached_passes']:.3g}":
            passes += f", cached {found['cached_passes']:.3g}"
        cells = [
            f"{r['task']}",
            f"`{r['sampler']}`",
            passes,
            f"{r['cache']}",
            f"{r['answers_changed']:.1f} [{r['answers_changed_low']:.1f}, {r['answers_changed_high']:.1f}]",
            f"{r['tokens_changed']:.2f}",
            f"{r['score']:.1f}",
            f"{r['cached_score']:.1f}",
            f"{r['delta']:+.1f} [{r['delta_low']:.1f}, {r['delta_high']:.1f}]",
            f"{r['evaluated']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table and save it, and its numbers, beside this file or where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-problems", type=int, default=200, help="of each task, the first of dev")
    parser.add_argument("--folder", type=Path, default=HERE, help="where table.md and table.csv go")
    arguments = parser.parse_args()
    frame = pd.DataFrame(rows(arguments.n_problems))
    text = table(frame)
    print(text)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "table.md").write_text(text)
    frame.to_csv(arguments.folder / "table.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
