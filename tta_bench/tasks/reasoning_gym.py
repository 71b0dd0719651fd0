"""Procedural problems with verifiers, from the library reasoning-gym: one task for each of its data sets."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import version as version_of
from importlib.util import find_spec
from itertools import count
from typing import Any

from tta_bench.catalog import unknown
from tta_bench.scorers import sandbox
from tta_bench.tasks.base import HOLE, Problem, first_of, split_of

EDITION = "1"
"""Of splits and scoring here, raised when they change; problems and verifiers have the version of the library."""

BLOCK = 500
"""Entries of one data set of the library; entry n of ours has the seed n there, whatever the block."""

THIRDS = (1 / 3, 2 / 3)
"""Where the shares of train and dev end. Entries can be costly, and of smaller splits more of them would be made in vain."""

PATIENCE = 2000
"""Entries in a row without a new problem after which a split counts as exhausted."""

NO_ANSWER = "its entries tell no answer, so that nothing shows whether its verifier accepts one"
UNSTABLE = "its problems or answers differ from one process to the next"
REFUSED = {
    "boxnet": NO_ANSWER,
    "codeio": UNSTABLE,
    "composite": "it is a mixture of others; run them one by one",
    "game_of_life_halting": "its verifier takes any text for a yes",
    "graph_color": NO_ANSWER,
    "intermediate_integration": UNSTABLE,
    "isomorphic_strings": UNSTABLE,
    "knight_swap": UNSTABLE,
    "list_functions": UNSTABLE,
    "polynomial_multiplication": UNSTABLE,
    "propositional_logic": NO_ANSWER,
    "puzzle24": "its verifier accepts numbers that were not asked for",
    "ransom_note": UNSTABLE,
    "rubiks_cube": NO_ANSWER,
    "rush_hour": NO_ANSWER,
    "word_ladder": UNSTABLE,
}
"""Data sets of the library that are no tasks here, and why (as of version 0.1.25)."""

EVALUATES = ("binary_matrix", "countdown", "n_queens", "simple_integration", "spiral_matrix", "string_insertion")
"""Data sets whose verifiers evaluate the answer as Python."""

HARMLESS = re.compile(r"[\w\s]*|(?!.*\*\s*\*)(?!.*[0-9]{10})[0-9\s+*/().-]*", re.DOTALL)
"""Texts that do no harm when evaluated: words without calls, arithmetic without powers and large numbers."""

LIMITS = sandbox.Limits(seconds=20.0, memory_mb=2048)
PROTECTIONS = ("files", "network", "signals", "processes")

VERIFY = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import json
from reasoning_gym import create_dataset
question = json.loads({question!r})
dataset = create_dataset(question["dataset"], seed=question["seed"], size=question["size"], **question["options"])
print("\\nscore", float(dataset.score_answer(question["answer"], dataset[question["place"]])), flush=True)
"""


@dataclass(frozen=True)
class ReasoningGym:
    """A data set of reasoning-gym; ``reasoning_gym`` makes it.

    A split has the entries whose question, by its hash, belongs to it, each question once, in the order of the library's seeds.
    Left out are entries whose own answer the verifier does not accept.

    The answer is what stands in the last ``<answer>...</answer>``, as the library extracts it, else the whole text without
    whitespace at its ends. The score is the library's ``score_answer``, cut to 0..1 (rounding takes it beyond), partial credit
    included; an answer that the verifier cannot read, so that it raises, scores 0.

    Attributes:
        dataset: its name in the library.
        options: of it, fields of its configuration.
        instruction: text before each question, or the name of one of the library's ``SYSTEM_PROMPTS``.
        gen_length: positions appended for an answer.

    Reference: Stojanovski et al., arXiv:2505.24760.
    """

    dataset: str
    options: Mapping[str, Any]
    instruction: str
    gen_length: int

    def __post_init__(self) -> None:
        if self.gen_length < 1:
            raise ValueError(f"task.gen_length={self.gen_length}: must be at least 1")
        require_library()
        if self.dataset in REFUSED:
            raise ValueError(f"task.name={self.dataset}: cannot be used, {REFUSED[self.dataset]}; docs/tasks.md has the others")
        if self.dataset not in names():
            raise ValueError(f"{unknown('task.name', self.dataset, names())} All: python -m tta_bench.tasks.reasoning_gym")
        check_options(self.dataset, self.options)

    @property
    def name(self) -> str:
        """Of the task."""
        return f"gym_{self.dataset}"

    @property
    def version(self) -> str:
        """Of splits and scoring here, and of the library."""
        return f"{EDITION}+{version_of('reasoning_gym')}"

    def stream(self, split: str) -> Iterator[Problem]:
        """Problems of ``split``, each question once; ends when no new one turns up any more."""
        seen: set[str] = set()
        last = 0
        head = instruction_text(self.instruction)
        for number in count():
            if number - last >= PATIENCE:
                return
            entry = self._entry(number)
            question = str(entry["question"])
            if split_of(question, THIRDS) != split or question in seen or not self._usable(number):
                continue
            seen.add(question)
            last = number
            name = f"{split}-{len(seen) - 1:05d}"
            yield Problem(name, head + question, str(entry["answer"]), self.gen_length, {"number": number})

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The first ``n`` problems of ``split``.

        Raises:
            ValueError: no such split, ``n`` out of range, the options leave fewer different problems than that, or the verifier
                would evaluate answers and this machine has no sandbox for that.
        """
        if self.dataset in EVALUATES:
            try:
                sandbox.require(PROTECTIONS)
            except sandbox.SandboxError as error:
                raise ValueError(f"task.name={self.dataset}: its verifier evaluates answers as Python, and {error}") from error
        return first_of(self.name, split, self.stream, n)

    def score(self, problem: Problem, text: str) -> float:
        """What the library's verifier gives for the answer in ``text``."""
        number, answer = int(str(problem.facts["number"])), extracted(text)
        trusted = self.dataset not in EVALUATES or answer == problem.target.strip() or HARMLESS.fullmatch(answer)
        if not trusted:
            return within(verified_apart(self.dataset, as_json(self.options), number, answer))
        return self._verified(number, answer)

    def answer(self, problem: Problem, text: str) -> Hashable:
        """The answer in ``text``."""
        return extracted(text)

    def violations(self, problem: Problem, text: str) -> list[float]:
        """None: the library states no rules beside its verifiers."""
        return [0.0] * len(text)

    def gold(self, problem: Problem, text: str) -> str | None:
        """None: other answers may be as right, so single tokens are not judged."""
        return None

    def _entry(self, number: int) -> Mapping[str, Any]:
        return entry(self.dataset, as_json(self.options), number)

    def _usable(self, number: int) -> bool:
        """Whether an entry has an answer that its verifier accepts, and no sign that stands for a hole."""
        found = self._entry(number)
        right = found["answer"]
        return HOLE not in found["question"] and isinstance(right, str) and self._verified(number, right.strip()) == 1.0

    def _verified(self, number: int, answer: str) -> float:
        dataset = block(self.dataset, as_json(self.options), number // BLOCK)
        try:
            return within(float(dataset.score_answer(answer, self._entry(number))))
        except Exception:  # of parsers and indices: the entry's own answer was accepted, so it is this one that cannot be read
            return 0.0


def reasoning_gym(
    name: str = "chain_sum", options: dict[str, Any] | None = None, instruction: str = "", gen_length: int = 128
) -> ReasoningGym:
    """The task of a data set of reasoning-gym.

    Args:
        name: of the data set.
        options: of it, for instance ``{"min_terms": 3}``; None takes its defaults.
        instruction: text before each question, or ``default``, ``direct`` and so on, names of the library's ``SYSTEM_PROMPTS``
            that ask for an answer in ``<answer>`` tags. Empty puts the question as it is.
        gen_length: positions appended for an answer.

    Raises:
        ValueError: the library is missing, has no such data set or option, or its data set does not qualify.
    """
    return ReasoningGym(name, options or {}, instruction, gen_length)


def require_library() -> None:
    """Refuse to go on without the library.

    Raises:
        ValueError: it is not installed; says how to.
    """
    if find_spec("reasoning_gym") is None:
        raise ValueError("task reasoning_gym needs reasoning-gym; run: python -m pip install 'tta_bench[reasoning-gym]'")


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The data sets of the library that are tasks, sorted."""
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS.keys() - REFUSED.keys()))


def check_options(dataset: str, options: Mapping[str, Any]) -> None:
    """Refuse what the library refuses.

    Raises:
        ValueError: no such option, or a value that it does not take.
    """
    from reasoning_gym.factory import DATASETS

    config = DATASETS[dataset][1]
    known = tuple(field.name for field in fields(config) if field.name not in ("seed", "size"))
    for option in options:
        if option in ("seed", "size"):
            raise ValueError(f"task.options.{option}: is set here, so that splits are the same everywhere; leave it out")
        if option not in known:
            raise ValueError(f"{unknown(f'option of {dataset}', option, known)} They are set as task.options={{...}}")
    try:
        made = config(**options)
        if hasattr(made, "validate"):
            made.validate()
    except Exception as error:
        raise ValueError(
            f"task.options={dict(options)}: reasoning-gym refuses them for {dataset} ({type(error).__name__}: {error})"
        ) from error


def instruction_text(instruction: str) -> str:
    """What stands before a question: an instruction of the library, or the text itself, and an empty line."""
    from reasoning_gym.utils import SYSTEM_PROMPTS

    text = SYSTEM_PROMPTS.get(instruction, instruction).strip()
    return f"{text}\n\n" if text else ""


@lru_cache(maxsize=16)
def block(dataset: str, options: str, number: int) -> Any:
    """The library's data set that holds entries ``number * BLOCK`` and following; ``options`` is JSON.

    Raises:
        ValueError: the library cannot make it.
    """
    from reasoning_gym import create_dataset

    try:
        return create_dataset(dataset, seed=number * BLOCK, size=BLOCK, **json.loads(options))
    except Exception as error:
        raise ValueError(
            f"task.options={options}: reasoning-gym cannot make {dataset} with them ({type(error).__name__}: {error})"
        ) from error


@lru_cache(maxsize=20_000)
def entry(dataset: str, options: str, number: int) -> Mapping[str, Any]:
    """The library's entry ``number``: question, answer, metadata."""
    found: Mapping[str, Any] = block(dataset, options, number // BLOCK)[number % BLOCK]
    return found


def verified_apart(dataset: str, options: str, number: int, answer: str) -> float:
    """What a verifier that evaluates its argument says, in a sandbox; 0 where it does not end well or in time."""
    question = {
        "dataset": dataset, "options": json.loads(options), "seed": number - number % BLOCK, "size": BLOCK,
        "place": number % BLOCK, "answer": answer,
    }  # fmt: skip
    sandbox.require(PROTECTIONS)
    outcome = sandbox.run([("verify", VERIFY.format(question=json.dumps(question)))], LIMITS)
    said = re.search(r"^score ([0-9.e+-]+)\s*\Z", outcome.output, re.MULTILINE)
    return float(said[1]) if outcome.passed and said else 0.0


def extracted(text: str) -> str:
    """The answer in a text: in the last pair of tags, else all of it."""
    from reasoning_gym.utils import extract_answer

    found: str | None = extract_answer(text)
    return text.strip() if found is None else found


def within(score: float) -> float:
    """A score in 0..1."""
    return min(1.0, max(0.0, score))


def as_json(options: Mapping[str, Any]) -> str:
    """Options as a text, the same for equal ones."""
    return json.dumps(dict(options), sort_keys=True)


if __name__ == "__main__":
    require_library()
    print(*names(), sep="\n")
