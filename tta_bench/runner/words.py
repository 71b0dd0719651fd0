"""The words to the numbers of token traces, so that whoever reads them needs no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.runner.prompts import Manner, asked
from tta_bench.runner.store import TOKEN, UNJUDGED, Words
from tta_bench.tasks.base import Problem


def words_of(trace: pd.DataFrame, problems: Mapping[str, Problem], tokenizer: Any, manner: Manner) -> Words:
    """The texts of the tokens that occur in a trace, right ones included, and what its traced problems ask and expect.

    Args:
        trace: of some records, with lists over the tokens of those that are traced.
        problems: by the key of their record.
        tokenizer: of the model; tokens are decoded one by one, special ones visible.
        manner: how problems are put.

    Returns:
        ``tokens``: texts by token id, as JSON knows keys; ``problems``: prompt and target by problem id.
    """
    told = trace[trace[f"{TOKEN}token"].notna()]
    lists = [ids for name in ("token", "gold") for ids in told[f"{TOKEN}{name}"]]
    ids = np.unique(np.concatenate(lists)).tolist() if lists else []
    traced = {problem.id: problem for problem in (problems[key] for key in dict.fromkeys(told["key"]))}
    return {
        "tokens": {str(token): str(tokenizer.decode([token])) for token in ids if token != UNJUDGED},
        "problems": {
            name: {"prompt": asked(problem, tokenizer, manner), "target": problem.target} for name, problem in traced.items()
        },
    }
