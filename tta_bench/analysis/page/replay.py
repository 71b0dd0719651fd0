"""The denoising replay: what a page needs to show, step by step, how baseline and candidate came to their answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer
from tta_bench.analysis.page.decodings import LONGEST_TEXT, UNITS, Decodings, Ranges, Vocabulary, ranges_of
from tta_bench.analysis.page.encode import ALPHABET, UNKNOWN
from tta_bench.analysis.page.visible import shortened, visible
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import representative
from tta_bench.analysis.signals import PROBABILITIES, SIGNALS
from tta_bench.tasks.base import HOLE

BUDGET = 8_000_000
"""Bytes that the replay may add to a page."""

MOST_PAIRS = 3
"""Comparisons of a task that can be replayed."""

NOTHING = (
    "There is nothing to replay: no comparison has token traces on both sides. A run keeps them for its first problems with "
    "token_traces=100, the default (samplers that vote keep none); answers that are there already are not traced afterwards, "
    "except with --fresh."
)


@dataclass(frozen=True)
class Replay:
    """What can be replayed.

    Attributes:
        data: for the script of the page; None where nothing can be replayed.
        notes: sentences on what is not shown, and why.
    """

    data: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    @property
    def embedded(self) -> str:
        """The data as JSON that is harmless within a script element of a page."""
        return written(self.data).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@dataclass(frozen=True)
class Duel:
    """A comparison that can be replayed.

    Attributes:
        one: the comparison.
        sides: decodings of baseline and candidate.
        ranges: of the signals, the same for all of a task.
        rank: comparisons of its task that come before it.
    """

    one: Compared
    sides: tuple[Decodings, Decodings]
    ranges: Ranges
    rank: int

    @property
    def problems(self) -> list[str]:
        """Those that both sides traced."""
        return [problem for problem in self.sides[0].traces if problem in self.sides[1].traces]

    def differs(self, problem: str) -> int:
        """2 where the scores of the two differ, 1 where only the texts do, else 0."""
        baseline, candidate = self.sides
        if baseline.score(problem) != candidate.score(problem):
            return 2
        return int(baseline.texts.get(problem) != candidate.texts.get(problem))


Part = tuple[str, str]
"""Names what is embedded once: a decoding by run and problem, or a problem by task (in brackets) and problem."""


@dataclass(frozen=True)
class Place:
    """A problem of a duel, by number, and the parts that it needs: the problem and two decodings."""

    duel: int
    problem: str
    differs: int
    parts: tuple[Part, Part, Part]


def replay(found: Sequence[Compared], describe: Describer, plan: TestPlan, budget: int = BUDGET) -> Replay:
    """What can be replayed of a study: for each task the comparison that is looked at closely, and a few more.

    Where that takes more than ``budget`` bytes, signals are left out, the least wanted first, then problems: first those of
    further comparisons, and of these first those whose answers are the same.
    """
    duels = [duel for group in of_tasks(found, plan) for duel in duels_of(group)]
    if not duels:
        return Replay(None, (NOTHING,))
    places = sorted(placed(duels), key=lambda place: (duels[place.duel].rank > 0, -place.differs, duels[place.duel].rank))
    word = Vocabulary()
    parts: dict[Part, dict[str, Any]] = {}
    for place in places:
        duel = duels[place.duel]
        parts[place.parts[0]] = asked(duel, place.problem)
        for name, side in zip(place.parts[1:], duel.sides, strict=True):
            if name not in parts:
                parts[name] = side.encoded(place.problem, duel.ranges, word)
    ends = sorted({number for duel in duels for side in duel.sides for number in side.ends(word)})
    words = word.texts
    room = budget - len(written(words))
    signals = fitting(parts, [name for name in UNITS if any(name in duel.ranges for duel in duels)], room)
    parts = {name: with_signals(part, signals) for name, part in parts.items()}
    kept = within(places, parts, room)
    told = [
        {"name": name, "label": SIGNALS[name], "unit": UNITS[name], "certain": "high" if name in PROBABILITIES else "low"}
        for name in signals
    ]
    data = {"alphabet": ALPHABET, "unknown": UNKNOWN, "hole": HOLE, "words": words, "ends": ends, "signals": told}
    return Replay(data | assembled(duels, kept, parts, describe), tuple(notes(duels, places, kept, signals)))


def of_tasks(found: Sequence[Compared], plan: TestPlan) -> Iterator[list[Compared]]:
    """For each task the comparison that is looked at closely, and others with its baseline, the first of each sampler."""
    for first in representative(found, plan.focus):
        shown = {first.pair.candidate.sampler: first}
        for one in found:
            if one.pair.baseline.run_id == first.pair.baseline.run_id:
                shown.setdefault(one.pair.candidate.sampler, one)
        yield list(shown.values())[:MOST_PAIRS]


def duels_of(group: Sequence[Compared]) -> list[Duel]:
    """Those of a task's comparisons, which share their baseline, that can be replayed."""
    runs = {run.run_id: (run, one.problems) for one in group for run in (one.pair.baseline, one.pair.candidate)}
    sides = {run_id: Decodings.of(run, problems) for run_id, (run, problems) in runs.items()}
    ranges = ranges_of(sides.values())
    pairs = [(one, (sides[one.pair.baseline.run_id], sides[one.pair.candidate.run_id])) for one in group]
    both = [(one, pair) for one, pair in pairs if pair[0].traces.keys() & pair[1].traces.keys()]
    return [Duel(one, pair, ranges, rank) for rank, (one, pair) in enumerate(both)]


def placed(duels: Sequence[Duel]) -> Iterator[Place]:
    """Every problem of every duel."""
    for number, duel in enumerate(duels):
        runs = [side.run for side in duel.sides]
        for problem in duel.problems:
            names = ((f"({runs[0].task})", problem), (runs[0].run_id, problem), (runs[1].run_id, problem))
            yield Place(number, problem, duel.differs(problem), names)


def asked(duel: Duel, problem: str) -> dict[str, Any]:
    """A problem for the script: what was asked and expected, None where no run recorded it."""
    told: dict[str, Any] = {}
    for side in duel.sides:
        told = told or dict(side.run.words["problems"].get(problem, {}))
    texts = {key: told.get(key) for key in ("prompt", "target")}
    return {"id": problem} | {key: text and shortened(visible(text), LONGEST_TEXT) for key, text in texts.items()}


def fitting(parts: Mapping[Part, Mapping[str, Any]], signals: Sequence[str], room: int) -> list[str]:
    """The most wanted signals with which all parts fit into so many bytes; one in any case."""
    sizes: Counter[str] = Counter()
    rest = 0
    for part in parts.values():
        mine = {name: len(written({name: text})) for name, text in part.get("channels", {}).items()}
        sizes.update(mine)
        rest += len(written(part)) - sum(mine.values())
    kept = list(signals)
    while len(kept) > 1 and rest + sum(sizes[name] for name in kept) > room:
        kept.pop()
    return kept


def with_signals(part: dict[str, Any], signals: Sequence[str]) -> dict[str, Any]:
    """A part with some of its signals only."""
    if "channels" not in part:
        return part
    return part | {"channels": {name: text for name, text in part["channels"].items() if name in signals}}


def within(places: Sequence[Place], parts: Mapping[Part, Mapping[str, Any]], room: int) -> list[Place]:
    """The first places whose parts fit into so many bytes."""
    counted: set[Part] = set()
    for number, place in enumerate(places):
        new = set(place.parts) - counted
        room -= sum(len(written(parts[name])) + 1 for name in new) + len("[00000,00000,00000,0],")
        if room < 0:
            return list(places[:number])
        counted |= new
    return list(places)


def assembled(
    duels: Sequence[Duel], kept: Sequence[Place], parts: Mapping[Part, Mapping[str, Any]], describe: Describer
) -> dict[str, Any]:
    """Comparisons with their problems, in the order of the study, by the numbers of what is embedded once."""
    order = {(place.duel, place.problem): place for place in kept}
    lists: dict[bool, dict[Part, int]] = {True: {}, False: {}}  # problems, decodings

    def number(name: Part) -> int:
        numbers = lists[name[0].startswith("(")]
        return numbers.setdefault(name, len(numbers))

    pairs = []
    for i, duel in enumerate(duels):
        places = [order[i, problem] for problem in duel.problems if (i, problem) in order]
        if places:
            names = [f"{side.run.sampler} {describe(side.run)}".strip() for side in duel.sides]
            pairs.append(
                {
                    "task": duel.one.pair.candidate.task,
                    "names": [visible(name) for name in names],
                    "ranges": {name: [float(f"{end:.4g}") for end in ends] for name, ends in duel.ranges.items()},
                    "problems": [[*map(number, place.parts), place.differs] for place in places],
                }
            )
    return {
        "pairs": pairs,
        "problems": [parts[name] for name in lists[True]],
        "traces": [parts[name] for name in lists[False]],
    }


def notes(duels: Sequence[Duel], places: Sequence[Place], kept: Sequence[Place], signals: Sequence[str]) -> Iterator[str]:
    """What a reader must know of what is not there."""
    several = any(duel.one.baseline.shape[1] > 1 for duel in duels)
    counts = dict.fromkeys((len(duel.problems), len(duel.one.problems)) for duel in duels)
    whole = all(traced == compared for traced, compared in counts)
    told = "All problems are traced" if whole else f"Traced are {' and '.join(f'{n} of {of}' for n, of in counts)} problems"
    yield told + (", of replicates the first." if several else ".")
    recorded = {name for duel in duels for name in duel.ranges}
    if left := [SIGNALS[name] for name in UNITS if name in recorded and name not in signals]:
        yield f"To keep this page small, it leaves out {', '.join(left)}; the runs have all of it."
    if len(kept) < len(places):
        yield (
            f"To keep this page small, {len(places) - len(kept):,} of {len(places):,} replays are left out, first those of "
            "further comparisons and those in which both sides answer the same."
        )
    if any(not side.run.words["tokens"] for duel in duels for side in duel.sides):
        yield (
            "Some runs were made before texts of tokens were kept beside the traces: their tokens are shown as numbers, and "
            "what they were asked is not told."
        )
    if any(side.rows["frozen"].isna().any() for duel in duels for side in duel.sides if len(side.rows)):
        yield "Some traces were made before freezes were recorded: of these nothing is said about freezing."


def written(value: object) -> str:
    """As compact JSON of ASCII characters only."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
