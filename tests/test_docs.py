from __future__ import annotations

import re

import pytest

from docs.generate import BETWEEN, PAGE, README, headline, page, read
from tta_bench import catalog


def test_the_page_of_samplers_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text() == page(), "docs/samplers.md is out of date; run: make docs"


def test_the_headline_is_that_of_the_committed_report() -> None:
    text = README.read_text()
    assert text == headline(text), "the headline table is out of date; run: make docs"
    named = {row.split("|")[1].strip() for row in BETWEEN.findall(text)[0].strip().splitlines()[2:]}
    assert named == set(catalog.names("sampler")) - {"tta_rules"}


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
    code, _ = re.findall(r"```python\n(.*?)```", (PAGE.parent / "constraints.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "docs/constraints.md", "exec", dont_inherit=True), {})
    assert re.fullmatch(r'[0-9.]+ \{"name":.*\}\n', capsys.readouterr().out)
