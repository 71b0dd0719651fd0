"""Write ``docs/samplers.md`` from the docstrings of the samplers, and the README's headline table: ``make docs``."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tta_bench import catalog
from tta_bench.analysis.standings import standings_table
from tta_bench.sampling.sampler import Sampler

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "samplers.md"

HEAD = """\
# Samplers

Generated from the docstrings by `make docs`; change those.

Every sampler is a composition of the parts in `tta_bench/sampling`: *views* look at the canvas, a *schedule* says how many
commits are due, a *commit* rule chooses them, a *remask* rule takes tokens back. Each is one file in
`tta_bench/sampling/presets` and one YAML in `conf/sampler`, used by its name:

```python
tokens, logs = tta_bench.generate(model, prompt, sampler="threshold", gen_length=64, block_length=32, threshold=0.9)
```
```
tta-bench run sampler=threshold sampler.threshold=0.9 block_length=32
```

All work with blocks (`block_length`), templates with holes, guidance (`cfg_scale`), left-padded batches (`attention_mask`),
every `eos_policy` and a trace of every step; the one exception is named where it is. Those with a parameter `cache` can keep
keys and values within a block ([models.md](models.md#caches)), on models that take them. A sampler that does not use `steps`
decides for itself when a block is done, and rows of a batch that are finished are not evaluated any more.

*Words.* A *block* is `block_length` consecutive positions that may be written. *Confidence* is the probability of the
candidate, untempered unless said otherwise. The *scheduled number*: every block gets the same number s of steps; of its m
positions m // s are committed in each, one more in the first m % s, and what was taken back is owed again. Ties go to the
lowest position.

*Ends of sequence.* `eos_policy=allow` commits them as any other token. `forbid` lets a position whose candidate ends the
sequence wait as long as the row has anything else to commit and steps to wait. `stop` finishes a row once a committed end has
no mask before it: masks behind it become ends, tokens behind it stay (cut the text at the first end), and ends before the
fixed text of a template do not count.

*Paper or code.* The rule is the paper's; where the published code differs by more than details, `reference_quirks=True` gives
the code's (factor, klass, and the nucleus of remdm). Where only the code tells a detail, it is the code's, and said below. At
temperature 0 low_confidence, margin, entropy, threshold, entropy_bound, dream_maskgit_plus, dream_topk_margin, dream_entropy,
p2, rcr and wino equal published implementations canvas for canvas, and so do factor and klass with `reference_quirks=True`
(`tests/golden`).

**What the order does to a distribution.** Where the order of positions does not look at the tokens drawn (random, entropy,
margin), decoding one at a time at temperature 1 samples the model's joint distribution; committing confident draws first
(low_confidence, p2, rcr) sharpens it: by 0.3 to 0.4 nats and a total variation of nearly 0.4 on a joint small enough to
enumerate ([experiments/exactness](../experiments/exactness/README.md)).
"""


@dataclass(frozen=True)
class Entry:
    """What a sampler's docstring says, by section."""

    name: str
    rule: str
    cost: str
    parameters: list[tuple[str, str, str]]
    reference: str
    sampler: Sampler


def read(name: str) -> Entry:
    """The entry of a sampler.

    Raises:
        ValueError: its docstring lacks its cost, or a parameter.
    """
    found = catalog.entry("sampler", name)
    function = catalog.resolve(found.target)
    text = inspect.getdoc(function) or ""
    sections = dict(re.findall(r"^(Args|Reference):\n((?:[ ]{4}.*\n?|\n)+)", text, flags=re.MULTILINE))
    body = re.split(r"^(?:Args|Reference):", text, flags=re.MULTILINE)[0].strip()
    rule, separator, cost = body.partition("\nCost: ")
    if not separator:
        raise ValueError(f"{name}: its docstring has no paragraph that starts with 'Cost: '")
    described = dict(re.findall(r"^    (\w+): ((?:.*\n?)(?:^[ ]{8}.*\n?)*)", sections.get("Args", ""), flags=re.MULTILINE))
    if missing := set(found.parameters) - set(described):
        raise ValueError(f"{name}: its docstring does not describe {', '.join(sorted(missing))}")
    parameters = [(key, show(value), flat(described[key])) for key, value in found.parameters.items()]
    reference = flat(sections.get("Reference", ""))
    paragraphs = "\n\n".join(flat(paragraph) for paragraph in rule.strip().split("\n\n"))
    return Entry(name, paragraphs, flat(cost), parameters, reference, found.build())


def family(sampler: Sampler) -> str:
    """Under which heading a sampler stands, by what it is made of."""
    if sampler.vote is not None or sampler.schedule.times > 1:
        return "Controls: the same cost spent otherwise"
    if sampler.remask is not None:
        return "Taking tokens back"
    return "Deciding how many to commit" if sampler.schedule.until_filled else "Committing on a schedule"


def show(value: object) -> str:
    """A default as Python writes it."""
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def flat(text: str) -> str:
    """Text on one line, code in single backticks."""
    return " ".join(text.split()).replace("``", "`")


def page() -> str:
    """The page."""
    entries = [read(name) for name in catalog.names("sampler")]
    order = ("Committing on a schedule", "Deciding how many to commit", "Taking tokens back")
    headings = [*order, "Controls: the same cost spent otherwise"]
    lines = [HEAD, "| sampler | takes back | uses `steps` | cost |", "|---|---|---|---|"]
    for heading in headings:
        for e in (e for e in entries if family(e.sampler) == heading):
            back, counts = ("yes" if flag else "no" for flag in (e.sampler.remask is not None, e.sampler.schedule.uses_steps))
            lines.append(f"| [{e.name}](#{e.name}) | {back} | {counts} | {e.cost} |")
    for heading in headings:
        lines += ["", f"## {heading}"]
        for e in (e for e in entries if family(e.sampler) == heading):
            lines += ["", f"### {e.name}", "", e.rule, "", f"*Cost:* {e.cost}", ""]
            lines += ["| parameter | default | |", "|---|---|---|"]
            lines += [f"| `{key}` | {default} | {text} |" for key, default, text in e.parameters]
            lines += ["", f"*Reference:* {e.reference}"] if e.reference else []
    return "\n".join(lines) + "\n"


README = ROOT / "README.md"
STANDINGS = ROOT / "experiments" / "samplers" / "report" / "tables" / "standings.csv"
BETWEEN = re.compile(r"(?<=<!-- headline: make docs -->\n).*?(?=<!-- end of headline -->)", flags=re.DOTALL)
"""Where the README has its headline table, which is taken from the committed report of a study."""

SHOWN = (4, 8, 16)
"""Budgets, in forward passes, that the headline shows."""


def headline(readme: str) -> str:
    """The README with the headline table of the committed report."""
    table = standings_table(pd.read_csv(STANDINGS, dtype={"settings": str}).fillna({"settings": ""}), SHOWN)
    found, n = BETWEEN.subn(lambda _: f"\n{table}\n", readme)
    if n != 1:
        raise ValueError(f"{README}: has {n} places for the headline table, must have one")
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
    README.write_text(headline(README.read_text()))
    print(f"wrote {PAGE} and the headline table of {README}")
