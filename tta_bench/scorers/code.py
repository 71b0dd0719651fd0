"""Programs that must pass their tests, as in HumanEval and MBPP. They run in the sandbox, see docs/sandbox.md."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tta_bench.scorers import sandbox
from tta_bench.scorers.reading import check_stop, fenced, until

CONTINUES = re.compile(r"\n*+(?: {2}|\t)")
"""How a text begins that goes on with the body of a function."""

PYTHON = ("python", "python3", "py")
CONTINUATION_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")
"""Where a continuation of a HumanEval prompt leaves its function; the first five as in arXiv:2107.03374."""


@dataclass(frozen=True)
class Code:
    """1 where the program in the text passes the row's tests.

    The program is the first fenced block of Python (that defines ``entry_point``, if one does), else what stands between
    ``[BEGIN]`` and ``[DONE]``, else the whole text.

    *HumanEval*: columns ``prompt``, ``test``, ``entry_point``. A text that is indented or lacks the function continues the
    prompt, up to the first of ``stop``; another one follows what the prompt has before the function. Then the test and
    ``check(entry_point)`` are run.
    *MBPP*: columns ``test_list`` and, where there are any, ``test_imports`` (a list) or ``test_setup_code``, which are run
    before the tests.

    Attributes:
        language: of the programs.
        timeout: seconds on the wall clock; programs near it may pass at one time and fail at another.
        memory_mb: of the program.
        file_mb: of what it writes.
        processes: and threads.
        stop: strings at the first of which a continuation of a prompt ends.
        required: protections of ``sandbox.PROTECTIONS`` without which no program is run.

    References: Chen et al., arXiv:2107.03374; Austin et al., arXiv:2108.07732.
    """

    language: Literal["python"] = "python"
    timeout: float = 5.0
    memory_mb: int = 512
    file_mb: int = 16
    processes: int = 16
    stop: tuple[str, ...] = CONTINUATION_ENDS
    required: tuple[str, ...] = ("files", "network", "signals", "processes")
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        check_stop(self.stop)
        if self.language != "python":
            raise ValueError(f"scorer.language={self.language!r}: must be python")
        for name in self.required:
            if name not in sandbox.PROTECTIONS:
                raise ValueError(f"scorer.required={list(self.required)}: must be among {', '.join(sandbox.PROTECTIONS)}")
        self._limits()

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        return float(self.run(text, facts).passed)

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The program, without whitespace at the ends of lines and empty lines."""
        lines = (line.rstrip() for line in self._solution(text, facts).splitlines())
        return "\n".join(line for line in lines if line)

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        self._pieces("", facts)
        try:
            sandbox.require(self.required)
        except sandbox.SandboxError as error:
            raise ValueError(str(error)) from error

    def run(self, text: str, facts: Mapping[str, object]) -> sandbox.Outcome:
        """What became of the program, how it ended, what it wrote and what it was kept from.

        Raises:
            SandboxError: this machine lacks what is ``required``.
        """
        sandbox.require(self.required)
        return sandbox.run(self._pieces(text, facts), self._limits())

    def _limits(self) -> sandbox.Limits:
        return sandbox.Limits(self.timeout, self.memory_mb, self.file_mb, self.processes)

    def _pieces(self, text: str, facts: Mapping[str, object]) -> list[tuple[str, str]]:
        """(name, source) of all that is run, in order."""
        solution = ("solution", self._solution(text, facts))
        if "test_list" in facts:
            imports = _texts(facts, "test_imports") if facts.get("test_imports") is not None else []
            setup = _text(facts, "test_setup_code") if facts.get("test_setup_code") is not None else ""
            tests = [("test", line) for line in _texts(facts, "test_list")]
            if not tests:
                raise ValueError("facts['test_list'] is empty: every program would pass")
            return [solution, ("setup", "\n".join([*imports, setup])), *tests]
        return [solution, ("test", _text(facts, "test")), ("check", f"check({_entry_point(facts)})")]

    def _solution(self, text: str, facts: Mapping[str, object]) -> str:
        blocks = [] if CONTINUES.match(text) else list(fenced(text, PYTHON))
        if "test_list" in facts:
            return blocks[0] if blocks else text.rpartition("[BEGIN]")[2].partition("[DONE]")[0]
        prompt, defines = _text(facts, "prompt"), re.compile(rf"^(?:async )?def {_entry_point(facts)}\b", re.MULTILINE)
        code = next((block for block in (*blocks, text) if defines.search(block)), None)
        if code is None:
            return prompt + (blocks[0] if blocks else until(text, self.stop))
        places = [match.start() for match in defines.finditer(prompt)]
        return (prompt[: places[-1]] if places else prompt) + "\n" + code


def _text(facts: Mapping[str, object], column: str) -> str:
    value = facts.get(column)
    if not isinstance(value, str):
        state = " is missing" if value is None else f"={value!r}: must be a text"
        raise ValueError(f"facts[{column!r}]{state}; code needs prompt, test and entry_point (HumanEval), or test_list (MBPP)")
    return value


def _texts(facts: Mapping[str, object], column: str) -> Sequence[str]:
    value = facts.get(column)
    if not isinstance(value, list | tuple) or not all(isinstance(line, str) for line in value):
        raise ValueError(f"facts[{column!r}]={value!r}: must be a list of texts")
    return value


def _entry_point(facts: Mapping[str, object]) -> str:
    name = _text(facts, "entry_point")
    if not name.isidentifier():
        raise ValueError(f"facts['entry_point']={name!r}: must be the name of a function")
    return name
