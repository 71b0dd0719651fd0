"""``tta-bench-lm-eval``: the command line of lm-evaluation-harness, which knows the model ``tta_bench`` here.

Release 0.4.13 of the harness looks for no models elsewhere; later ones read the entry point of the group ``lm_eval.models``.
"""

from __future__ import annotations

import sys

BAD_INPUT = 2

MODEL = "tta_bench.integrations.lm_eval:TtaBenchLM"


def main() -> int:
    """Register the model and do what the harness does; returns the exit code."""
    try:
        from lm_eval.__main__ import cli_evaluate
        from lm_eval.api.registry import model_registry
        from lm_eval.models import MODEL_MAPPING  # imported, it registers the harness's own models, which must come first
    except ModuleNotFoundError as error:
        print(f'tta-bench-lm-eval: {error.name} is not installed; pip install "tta_bench[lm-eval]"', file=sys.stderr)
        return BAD_INPUT
    from tta_bench.integrations.refusal import RefusedError

    if "tta_bench" not in {*MODEL_MAPPING, *model_registry}:
        model_registry.register("tta_bench", target=MODEL)
    try:
        cli_evaluate()
    except RefusedError as error:
        print(f"tta-bench-lm-eval: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0
