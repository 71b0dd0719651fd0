"""tta_bench: a benchmark harness for decoding strategies of masked diffusion language models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tta_bench.analysis.frames import results, summary, traces
    from tta_bench.api import generate, generate_with_tta_uncertainty
    from tta_bench.benchmark import analyze_icml_results, run_academic_benchmark
    from tta_bench.likelihood import choice_bounds, log_likelihood_bound, pseudo_log_likelihood
    from tta_bench.models.dream import DreamConfig, DreamModel
    from tta_bench.models.illada import ILLaDAConfig, ILLaDAForCausalLM
    from tta_bench.models.llada import LLaDAConfig, LLaDAModelLM
    from tta_bench.models.llada_moe import LLaDAMoEConfig, LLaDAMoEModelLM
    from tta_bench.models.loading import load
    from tta_bench.sampling.constraints import ConstraintError

_HOMES = {
    "generate": "tta_bench.api",
    "generate_with_tta_uncertainty": "tta_bench.api",
    "run_academic_benchmark": "tta_bench.benchmark",
    "analyze_icml_results": "tta_bench.benchmark",
    "choice_bounds": "tta_bench.likelihood",
    "log_likelihood_bound": "tta_bench.likelihood",
    "pseudo_log_likelihood": "tta_bench.likelihood",
    "DreamConfig": "tta_bench.models.dream",
    "DreamModel": "tta_bench.models.dream",
    "ILLaDAConfig": "tta_bench.models.illada",
    "ILLaDAForCausalLM": "tta_bench.models.illada",
    "LLaDAMoEConfig": "tta_bench.models.llada_moe",
    "LLaDAMoEModelLM": "tta_bench.models.llada_moe",
    "LLaDAConfig": "tta_bench.models.llada",
    "LLaDAModelLM": "tta_bench.models.llada",
    "load": "tta_bench.models.loading",
    "ConstraintError": "tta_bench.sampling.constraints",
    "results": "tta_bench.analysis.frames",
    "summary": "tta_bench.analysis.frames",
    "traces": "tta_bench.analysis.frames",
}
_PACKAGES = ("analysis", "models", "runner", "sampling", "tasks", "testing")
__all__ = [
    "ConstraintError",
    "DreamConfig",
    "DreamModel",
    "ILLaDAConfig",
    "ILLaDAForCausalLM",
    "LLaDAConfig",
    "LLaDAMoEConfig",
    "LLaDAMoEModelLM",
    "LLaDAModelLM",
    "analyze_icml_results",
    "choice_bounds",
    "generate",
    "generate_with_tta_uncertainty",
    "load",
    "log_likelihood_bound",
    "pseudo_log_likelihood",
    "results",
    "run_academic_benchmark",
    "summary",
    "traces",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the command line and the analysis start without torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return import_module(f"tta_bench.{name}")
    raise AttributeError(f"module 'tta_bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])
