from __future__ import annotations

import re

import pytest

from docs.generate import PAGE, page, read
from tta_bench import catalog


def test_the_page_of_samplers_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page(), "docs/samplers.md is out of date; run: make docs"


@pytest.mark.parametrize("name", catalog.names("sampler"))
def test_every_sampler_tells_rule_cost_parameters_and_reference(name: str) -> None:
    entry = read(name)
    assert entry.rule
    assert "pass" in entry.cost
    # Controls and this package's own sampler have no paper.
    own = name.startswith("tta") or name in ("random_remask", "more_steps")
    assert own or re.search(r"arXiv:\d{4}\.\d{5}", entry.reference)


def test_the_example_of_the_statistics_runs(capsys: pytest.CaptureFixture) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGE.parent / "statistics.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "docs/statistics.md", "exec"), {})
    assert capsys.readouterr().out.endswith("\n969\n")


def test_the_example_of_the_constraints_runs(capsys: pytest.CaptureFixture) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (PAGE.parent / "constraints.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "docs/constraints.md", "exec", dont_inherit=True), {})
    assert re.fullmatch(r'[0-9.]+ \{"name":.*\}\n', capsys.readouterr().out)
