"""What Inspect finds by the entry point of this package: the name of the provider, and where it is."""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi


def tta_bench() -> type[ModelAPI]:
    """The provider, imported with torch when it is first used."""
    from tta_bench.integrations.inspect import TtaBenchAPI

    return TtaBenchAPI


modelapi(name="tta_bench")(tta_bench)
