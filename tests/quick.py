"""How much is enough for tests of the default run."""

from __future__ import annotations

QUICK = ("analysis.n_resamples=99", "analysis.n_bootstrap=200", "analysis.n_judged=0")
"""Settings of the analysis for tests that are about something else."""

FEW = 5
"""Inputs that a drawn check of ``tta_bench.testing`` draws: with holes and without, in one block and in several.

``conformance/test_testing.py`` sees to it that they catch every sampler that it breaks."""
