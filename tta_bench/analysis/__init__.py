"""From records on disk to tables, figures and a report. Nothing here imports torch."""
