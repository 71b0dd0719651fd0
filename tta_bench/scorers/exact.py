"""Texts that must be equal."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Exact:
    """1 where the text is the target, after the same changes to both.

    Attributes:
        strip: leave out whitespace at both ends.
        casefold: capital and small letters are the same.
        collapse_whitespace: any run of whitespace is one space.
    """

    strip: bool = True
    casefold: bool = False
    collapse_whitespace: bool = False
    version: ClassVar[str] = "1"

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        return float(self.answer(text, facts) == self.answer(target, facts))

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The text after the changes."""
        text = re.sub(r"\s+", " ", text) if self.collapse_whitespace else text
        text = text.strip() if self.strip else text
        return text.casefold() if self.casefold else text

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        """Any row can be scored."""
