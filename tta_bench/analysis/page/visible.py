"""Texts of models and data sets, in which nothing is hidden."""

from __future__ import annotations

import unicodedata

KEPT = frozenset("\n\t\N{SOFT HYPHEN}\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
"""Characters without a picture that belong to texts: scripts and emoji need them."""

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: control characters, formats, surrogates, separators of lines and paragraphs."""


def visible(text: str) -> str:
    """A text with what cannot be seen, turns the direction of reading or is no character replaced by its code, as [U+202E].

    Control characters have their picture (NUL is ␀).
    """
    return text if text.isascii() and text.isprintable() else "".join(map(shown, text))


def shown(character: str) -> str:
    """One character of ``visible``."""
    code = ord(character)
    if character in KEPT or unicodedata.category(character) not in HIDDEN:
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"[U+{code:04X}]"


def shortened(text: str, most: int) -> str:
    """The beginning of a text of more than ``most`` characters, with how many are left out."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most:,} more characters)"
