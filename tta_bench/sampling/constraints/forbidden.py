"""Tokens that must not occur."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.sampling.constraints.place import in_text
from tta_bench.types import ConstraintFn


def forbidden_tokens(
    ids: Sequence[int] | Set[int] = (),
    weight: float = 1.0,
    *,
    texts: Sequence[str] = (),
    tokenizer: Any = None,
    start: int | Sequence[int] = 0,
    end_ids: Sequence[int] | Set[int] = (),
) -> ConstraintFn:
    """``weight`` at every token of a text that is one of these.

    Args:
        ids: of the tokens.
        weight: what each counts.
        texts: of tokens, each of a single one. Most vocabularies have a word twice, with and without a space before it.
        tokenizer: of the model; ``texts`` need it.
        start: where the text begins: the width of the prompts, padding included, or a place for each row of the batch.
        end_ids: tokens that end the text; the one that does is part of it.

    Raises:
        ValueError: no ids or texts, a text that is not one token, or a weight that is not finite and >= 0; when asked, also a
            start that does not fit the rows.
    """
    found, amount, begins = checks.token_ids("ids", ids), checks.weight("weight", weight), checks.places(start)
    ends = torch.tensor(checks.token_ids("end_ids", end_ids), dtype=torch.int64)
    if not found and not texts:
        raise ValueError("ids=(): forbids nothing; name at least one token id, or a token by its text (texts)")
    forbidden = torch.tensor([*found, *(_id(text, tokenizer) for text in texts)])

    def violations(tokens: Tensor) -> Tensor:
        marked = torch.isin(tokens, forbidden.to(tokens.device)) & in_text(tokens, begins, ends)
        return marked * torch.tensor(amount, device=tokens.device)

    return violations


def _id(text: str, tokenizer: Any) -> int:
    """The id of the token with this text."""
    if tokenizer is None:
        raise ValueError(f"texts={text!r}: tokens are named by text with a tokenizer only; give the model's")
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        pieces = ", ".join(repr(tokenizer.decode([i])) for i in ids)
        raise ValueError(
            f"texts={text!r}: is {len(ids)} tokens of this model ({pieces}), and must be one; name one of them, or forbid the "
            "whole by a pattern: regex has (?!...)"
        )
    if tokenizer.decode(ids) != text:
        raise ValueError(
            f"texts={text!r}: this model has no such token (it reads as {tokenizer.decode(ids)!r}); name another, or an id"
        )
    return int(ids[0])
