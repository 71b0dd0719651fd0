"""From records on disk to tables, figures and a report. Nothing here imports torch."""

from tta_bench.analysis import stats

__all__ = ["stats"]
