"""Settings of the analysis for tests that are about something else."""

from __future__ import annotations

QUICK = ("analysis.n_resamples=99", "analysis.n_bootstrap=200", "analysis.n_judged=0")
