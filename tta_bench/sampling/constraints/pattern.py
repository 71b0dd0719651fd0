"""Where a text stops matching a regular expression."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Unpack

import regex as engine

from tta_bench.sampling.constraints.text import UNKNOWN, Reading, of_text
from tta_bench.types import ConstraintFn

PATIENCE = 5.0
"""Seconds that one match may take: some patterns take for ever on some texts."""


def regex(pattern: str, tokenizer: Any, **reading: Unpack[Reading]) -> ConstraintFn:
    """1 at the token with the first character behind the longest beginning of the text that can still become a full match.

    Where all of the text can, but is no match yet, 1 at the token that ends it, or else at the last token. A mask may become
    any text, so nothing behind the first one is marked.

    Args:
        pattern: that the whole text must match, in the syntax of the ``regex`` package.
        tokenizer: of the model.
        **reading: how rows are read, as for ``of_text``.

    Raises:
        ValueError: the pattern is none, or as ``of_text``; when asked, TimeoutError where a match takes longer than 5 seconds.
    """
    try:
        compiled = engine.compile(pattern)
    except (engine.error, TypeError) as error:
        raise ValueError(f"pattern={pattern!r}: is no regular expression ({error}); the regex package has the syntax") from None

    def dead(text: str) -> bool:
        return compiled.fullmatch(text, partial=True, timeout=PATIENCE) is None

    def judge(text: str) -> list[float]:
        scores = [0.0] * (len(text) + 1)
        known, unknown, _ = text.partition(UNKNOWN)
        if not dead(known):
            scores[-1] = float(not unknown and compiled.fullmatch(text, timeout=PATIENCE) is None)
        else:
            # The shortest beginning that is dead; its last character is the one to mark.
            length = bisect_left(range(len(known)), True, key=lambda n: dead(known[:n]))
            scores[max(length - 1, 0)] = 1.0
        return scores

    return of_text(judge, tokenizer, **reading)
