"""The card of a published data set: what it holds, how it was made, how it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from tta_bench import __version__
from tta_bench.integrations.dataset_folder import Published, shorter_words, with_words

TABLES = {
    "records": "one answer: a problem and replicate of a run",
    "runs": "one run: its configuration, score with 95 % t interval, cost",
    "comparisons": "one comparison with a baseline: paired difference, interval, adjusted p-value (the report's summary.csv)",
    "traces": "one denoising step of one answer",
}

MOST_ROWS = 40
"""Of a table in the card; longer ones are only in the data."""

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def card(found: Published, folder: Path, *, repo: str, licence: str) -> str:
    """The text of README.md.

    Args:
        found: what is published.
        folder: that holds its tables, under ``data``.
        repo: where it will be.
        licence: its identifier, as the hub knows it.
    """
    tables = [name for name in TABLES if (folder / "data" / f"{name}.parquet").is_file()]
    runs = pd.read_parquet(folder / "data" / "runs.parquet")
    head = {
        "license": licence,
        "pretty_name": f"tta_bench: {', '.join(distinct(runs['task']))}",
        "tags": ["tta_bench", "masked-diffusion", "decoding", "benchmark"],
        "size_categories": [size(int(runs["n_records"].sum() + runs["n_errors"].sum()))],
        "configs": [
            {"config_name": name, "data_files": f"data/{name}.parquet", **({"default": True} if name == "records" else {})}
            for name in tables
        ],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {repo.rpartition('/')[2]}",
        introduction(found, runs),
        f'```python\nfrom datasets import load_dataset\nrecords = load_dataset("{repo}", split="train")\n```',
        "\n".join(["| configuration | a row is |", "|---|---|", *(f"| `{name}` | {TABLES[name]} |" for name in tables)]),
        "`runs/<run_id>/` holds the configuration of every run, from which it can be made again, and its manifest: versions, "
        "commit, device, times.",
        "## What was run",
        results(found, runs),
        "## What to know",
        KNOW,
        f"Made with tta_bench {__version__}. Licence: {licence}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


KNOW = """\
- `score` is between 0 and 1, `forward_passes` are model evaluations of one full sequence, `text` is what the model answered.
- Runs of one task share problems and random numbers (`problem`, `replicate`): compare them problem by problem.
- `data` and `prompt` are digests of a problem and of its token ids. The problems are not here: `tta_bench.tasks.load` makes or
  reads them, and data sets that they are taken from have licences of their own.
- Records whose `error` is not null have no answer and no score, and a run with such a record, or one that lacks replicates of
  some problems, has no score in `runs`. `more` holds, as JSON, what else a record tells.
- Intervals of runs are for each by itself. Among many settings the best looks better than it is."""


def introduction(found: Published, runs: pd.DataFrame) -> str:
    """What this is, in two sentences."""
    made = sorted(str(run.manifest["updated"])[:10] for run in found.runs if run.manifest.get("updated"))
    when = f", made {made[0]}" + (f" to {made[-1]}" if made[0] != made[-1] else "") if made else ""
    return (
        f"Answers of masked diffusion language models under different decoding strategies: {len(runs)} run(s) of "
        f"{runs['sampler'].nunique()} sampler(s) on {', '.join(distinct(runs['task']))} ({', '.join(distinct(runs['split']))} "
        f"split), model {', '.join(distinct(runs['model']))}; {int(runs['n_records'].sum()):,} answers{when}."
    )


def results(found: Published, runs: pd.DataFrame) -> str:
    """The comparisons of a report as it has them, with file names in place of paths; else the runs."""
    summary = found.report and found.report / "summary.md"
    if summary and summary.is_file():
        text = with_words(summary.read_text().strip(), shorter_words(found.runs))
        if len(text.splitlines()) <= MOST_ROWS:
            return text
    if len(runs) > MOST_ROWS:
        return f"{len(runs)} runs, see the configuration `runs`."
    lines = ["| run | steps | problems | score % | 95 % interval | passes |", "|---|---|---|---|---|---|"]
    for row in runs.to_dict("records"):
        steps = "" if pd.isna(row["steps"]) else f"{row['steps']}"
        low, score, high = (100 * row[key] for key in ("score_ci_low", "score", "score_ci_high"))
        told = " | " if pd.isna(score) else f"{score:.1f} | {low:.1f} to {high:.1f}"
        lines.append(f"| {row['run_id']} | {steps} | {row['n_problems']} | {told} | {row['forward_passes']:.4g} |")
    return "\n".join(lines)


def distinct(values: pd.Series) -> Sequence[str]:
    """The different values, in order."""
    return sorted(set(map(str, values)))


def size(n: int) -> str:
    """The hub's word for so many rows."""
    return next((word for most, word in SIZES if n < most), "n>10M")
