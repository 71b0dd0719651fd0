"""The table of texts: how long, how varied, how repetitive and how probable the answers of each run are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.judged import Judgement, judgements, pseudo_perplexity
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.analysis.stats import Estimate, mean_interval
from tta_bench.runner.store import Record

LONGEST_REPEAT = 4
"""Words of an n-gram whose repetition within an answer counts."""

MOST_ACROSS, MOST_WITHIN = 50, 10
"""Answers that are compared with each other for self-BLEU, over problems and over replicates: 2,450 and 90 pairs."""


def text_table(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """A row for each run whose answers are on disk."""
    rows: dict[str, dict[str, Any]] = {}
    judged: dict[str, list[Judgement]] = {}
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            if run.run_id in rows:
                continue
            answers = answers_of(run, one.problems, study.replicates)
            if answers and run.folder:
                judged[run.run_id] = judgements(run.folder, answers)
                rows[run.run_id] = named(run, describe) | text_row(run, answers, 1 - plan.alpha)
    if not rows:
        return None
    judges = judge_columns([one for several in judged.values() for one in several])
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            for judgement in judged.get(run.run_id, ()):
                rows[run.run_id] |= judged_row(run, judgement, judges[judgement.judge_id], 1 - plan.alpha)
    table = pd.DataFrame(list(rows.values())).assign(run_id=list(rows))
    return Section("texts", "Texts", table, methods(judged, judges, plan), note(judged))


def text_row(run: Run, answers: Mapping[str, Sequence[Record]], confidence: float) -> dict[str, Any]:
    """What is told of the answers of a run, by problem."""
    texts = {problem: [record["text"] for record in several] for problem, several in answers.items()}
    words = {problem: [text.split() for text in several] for problem, several in texts.items()}
    every = [answer for several in words.values() for answer in several]
    per_problem: dict[str, dict[str, Any]] = {
        "characters": {problem: np.mean([len(text) for text in several]) for problem, several in texts.items()},
        "words": {problem: np.mean([len(answer) for answer in several]) for problem, several in words.items()},
        "repetition": {problem: np.mean([repetition(answer) for answer in several]) for problem, several in words.items()},
        "self_bleu": {problem: self_bleu(several[:MOST_WITHIN]) for problem, several in texts.items()},
    }
    row: dict[str, Any] = {"n_problems": len(texts)}
    for name, values in per_problem.items():
        known = {problem: value for problem, value in values.items() if not np.isnan(value)}
        clusters = run.clusters(list(known)) if known else None
        estimate = mean_interval(np.array(list(known.values())), confidence, clusters) if known else UNKNOWN
        row |= columns(name, estimate)
    row |= {"self_bleu_across": self_bleu([several[0] for several in texts.values()][:MOST_ACROSS])}
    row |= {"empty": np.mean([not answer for answer in every])}
    return row | {f"distinct_{n}": distinct(every, n) for n in (1, 2)}


def judged_row(run: Run, one: Judgement, name: str, confidence: float) -> dict[str, Any]:
    """What is told of the answers of a run as a judge sees them; nothing before it has seen all."""
    if one.missing or not one.surprise:
        return columns(name, UNKNOWN)
    return columns(name, pseudo_perplexity(one.surprise, confidence, run.clusters(list(one.surprise))))


UNKNOWN = Estimate(np.nan, np.nan, np.nan)


def columns(name: str, estimate: Estimate) -> dict[str, float]:
    """A value with its interval."""
    return {name: estimate.value, f"{name}_low": estimate.ci_low, f"{name}_high": estimate.ci_high}


def judge_columns(judged: Sequence[Judgement]) -> dict[str, str]:
    """The column of each judge, by its id; judges of one name that differ in their settings bear their ids."""
    ids: dict[str, set[str]] = {}
    for one in judged:
        ids.setdefault(one.name, set()).add(one.judge_id)
    ends = {one.judge_id: f"_{one.judge_id}" if len(ids[one.name]) > 1 else "" for one in judged}
    return {one.judge_id: f"pseudo_perplexity_{one.name}{ends[one.judge_id]}" for one in judged}


def methods(judged: Mapping[str, Sequence[Judgement]], judges: Mapping[str, str], plan: TestPlan) -> dict[str, str]:
    """What the columns are."""
    level = f"mean over problems, {100 * (1 - plan.alpha):g} % t interval"
    bleu = "BLEU-4 against all others (sacrebleu, 13a tokens, exponential smoothing, effective order; Zhu et al. 2018)"
    probable = {
        judges[one.judge_id]: f"exp of the mean nats per token of an answer, each token hidden in turn, by {one.model} "
        f"(tta-bench perplexity); geometric mean over problems, {100 * (1 - plan.alpha):g} % t interval of its logarithm"
        for several in judged.values()
        for one in several
    }
    return {
        "characters": f"length of an answer, {level}",
        "words": f"words of an answer, {level}",
        "repetition": f"share of an answer's n-grams of {LONGEST_REPEAT} words that occurred in it before, {level}",
        "self_bleu": f"likeness, 0 to 1, of the answers to one problem: mean over its first {MOST_WITHIN} replicates of "
        f"{bleu}; {level}, of problems with two answers or more that have words",
        "self_bleu_across": f"the same over the first answers to the first {MOST_ACROSS} problems",
        "empty": "share of answers without a word",
        "distinct_1": "different words over all words of all answers (Li et al. 2016)",
        "distinct_2": "different pairs of words over all pairs of all answers (Li et al. 2016)",
    } | probable


def note(judged: Mapping[str, Sequence[Judgement]]) -> str:
    """What a reader should know."""
    every = [one for several in judged.values() for one in several]
    told = "Words are what blanks separate. Distinct-n falls with the number of words: compare it between runs of like length."
    if any(one.own for one in every):
        told += " Where the judge is the model that answered, pseudo-perplexity tells how sure it is of itself, not how good a"
        told += " text is."
    unfinished = [run_id for run_id, several in judged.items() if any(one.missing for one in several)]
    if unfinished:
        told += f" Not all answers were judged of {', '.join(unfinished)}: tta-bench perplexity goes on."
    return told


def answers_of(run: Run, problems: Sequence[str], replicates: int | None) -> dict[str, list[Record]]:
    """The records of a run's answers by problem, replicates in order."""
    wanted, found = set(problems), dict[str, list[Record]]()
    for record in run.answers():
        counts = replicates is None or record["replicate"] < replicates
        if record["problem"] in wanted and counts:
            found.setdefault(record["problem"], []).append(record)
    return {problem: sorted(several, key=lambda record: record["replicate"]) for problem, several in sorted(found.items())}


def self_bleu(texts: Sequence[str]) -> float:
    """How much alike texts are, 0 to 1: the mean BLEU-4 of each with all others as references.

    Texts without a word are left out; NaN where fewer than two have words.
    Of texts shorter than four tokens the shorter n-grams count alone.

    Reference:
        Zhu et al., "Texygen: A Benchmarking Platform for Text Generation Models", SIGIR 2018, arXiv:1802.01886.
    """
    from sacrebleu.metrics.bleu import BLEU

    kept = [text for text in texts if text.split()]
    if len(kept) < 2:
        return np.nan
    bleu = BLEU(effective_order=True)
    scores = [bleu.sentence_score(text, kept[:i] + kept[i + 1 :]).score for i, text in enumerate(kept)]
    return min(1.0, float(np.mean(scores)) / 100)


def distinct(answers: Sequence[Sequence[str]], n: int) -> float:
    """Distinct-n: different n-grams over all n-grams of all answers; NaN where there are none.

    Reference:
        Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016, arXiv:1510.03055.
    """
    grams = [gram for answer in answers for gram in ngrams(answer, n)]
    return len(set(grams)) / len(grams) if grams else np.nan


def repetition(words: Sequence[str], n: int = LONGEST_REPEAT) -> float:
    """The share of a text's n-grams that occurred in it before; 0 where it is too short to have any."""
    grams = Counter(ngrams(words, n))
    total = sum(grams.values())
    return (total - len(grams)) / total if total else 0.0


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
