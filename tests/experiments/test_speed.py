from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import tta_bench
from experiments.speed import __main__ as speed
from experiments.speed import gpu, memory, naive
from experiments.speed.measure import Shares, alternated
from experiments.speed.models import SHAPES, Shape, build, floor
from tta_bench.testing import MASK_ID, TinyDenoiser

SMALL = {"V": Shape(64, 1, 300), "D": Shape(64, 2, 128)}
IN_THIS_PROCESS = ["views", "published", "dropout", "shares", "batches", "floors", "growth"]


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny models and short sequences: whether it runs, and that both loops give the same tokens, not how fast."""
    for name, shape in SMALL.items():
        monkeypatch.setitem(SHAPES, name, shape)
    monkeypatch.setattr(sys, "argv", ["speed", "--quick", "--only", *IN_THIS_PROCESS, "--folder", str(tmp_path)])
    speed.main()
    frame = pd.read_csv(tmp_path / "table.csv")
    assert set(frame["section"]) == {
        "K views", "published loop", "dropout", "time beside the model", "batches", "floor", "growth",
    }  # fmt: skip
    assert (frame["value"] > 0).all()
    assert (tmp_path / "table.md").read_text() == speed.table(frame)
    assert frame["rule"].notna().sum() > 20


@pytest.mark.slow
def test_memory_and_starting_are_measured_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speed", "--quick", "--only", "memory", "starting", "--folder", str(tmp_path)])
    speed.main()
    frame = pd.read_csv(tmp_path / "table.csv")
    assert {"peak memory", "starting"} == set(frame["section"])
    with pytest.raises(RuntimeError, match="failed"):
        memory.peak("low_confidence", "no such model", 1)


def test_the_benchmark_of_a_gpu_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, wherever that is: whether it runs, and that its table is complete."""
    sections = [name for name in gpu.SECTIONS if name not in ("shares", "compile", "memory")]
    words = ["--checkpoint", str(tmp_path / "model"), "--folder", str(tmp_path / "out"), "--only", *sections]
    monkeypatch.setattr(sys, "argv", ["gpu", "--quick", *words])
    gpu.main()
    frame = pd.read_csv(tmp_path / "out" / "table_gpu.csv")
    assert set(frame["section"]) == {"load", "forward", "K views", "published loop", "caches", "parts"}
    assert (frame["value"] > 0).all()
    assert float(frame.loc[frame["what"] == "equal tokens at temperature 0", "value"].item()) == 1
    assert gpu.logits.MANY == 2**24


@pytest.mark.parametrize("name", ["table", "table_gpu"])
def test_the_committed_table_is_that_of_its_numbers(name: str) -> None:
    assert speed.table(pd.read_csv(speed.HERE / f"{name}.csv")) == (speed.HERE / f"{name}.md").read_text()


def test_the_committed_table_has_every_section() -> None:
    frame = pd.read_csv(speed.HERE / "table.csv")
    assert {line["section"] for line in frame.to_dict("records")} >= {"K views", "published loop", "peak memory", "starting"}


def test_a_line_that_breaks_its_limit_says_so() -> None:
    lines = [{"value": 2.0, "rule": rule, "limit": limit} for rule, limit in (("<=", 1.0), (">=", 1.0), ("<=", 2.0), ("", 1.0))]
    assert [speed.holds(line) for line in lines] == ["NO", "yes", "yes", ""]


def test_cases_are_timed_in_alternation_after_a_round_that_does_not_count() -> None:
    order: list[str] = []
    times = alternated({name: lambda name=name: order.append(name) for name in "ab"}, rounds=2)  # type: ignore[misc]
    assert order == list("ababab")
    assert [len(values) for values in times.values()] == [2, 2]


def test_shares_leave_out_the_first_decoding() -> None:
    shares = Shares(model=[9.0, 1.0, 3.0, 0.0], step=[9.0, 2.0, 4.0, 0.0], whole=[9.0, 4.0, 8.0])
    assert shares.parts() == {"model": 2.0, "sampler": 1.0, "bookkeeping": 3.0, "overhead": 1 - (1 / 4 + 3 / 8) / 2}


def test_the_floor_counts_what_a_model_must_do() -> None:
    model = SMALL["D"].build()
    body = sum(p.numel() for p in model.parameters()) - 2 * 128 * 64
    macs, size = floor(model, 10, 4)
    assert macs == body * 10 + 128 * 64 * 4 + 2 * 10 * 10 * 64 * 2
    assert size == 4 * (body + 128 * 64)
    assert build("mini").config.vocab_size == 99


@pytest.mark.parametrize("seed", [1, 2, 3, 4])  # with 0 the published loop writes the mask token, which ours never does
def test_the_published_loop_and_ours_give_the_same_tokens(seed: int) -> None:
    model, prompt = TinyDenoiser(seed), torch.tensor([[1, 3, 5]])
    options = {"steps": 6, "gen_length": 12, "block_length": 4}
    published = naive.llada(model, prompt, **options, temperature=0.0, mask_id=MASK_ID, generator=torch.Generator())
    assert torch.equal(published, tta_bench.generate(model, prompt, **options)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_views_that_share_an_evaluation_decide_as_views_that_do_not(seed: int) -> None:
    """Without the draws in the score, token for token: entropies, commits, remasks, freezes."""
    model, prompt = TinyDenoiser(seed), torch.tensor([[1, 3, 5]])
    options = {"steps": 12, "gen_length": 12, "block_length": 6}
    apart = naive.sequential_views(
        model, prompt, **options, k=3, beta_disagreement=0.0, remask_top_pct=0.3, mask_id=MASK_ID, generator=torch.Generator()
    )  # type: ignore[arg-type]
    assert len(model.calls) == 36
    parameters = {"tta_k": 3, "beta_disagreement": 0.0, "remask_top_pct": 0.3}
    together, logs = tta_bench.generate(model, prompt, "tta", **options, **parameters)  # type: ignore[arg-type]
    assert len(model.calls) == 48
    assert torch.equal(apart, together)
    assert sum(len(step["remasked"]) for step in logs["token_logs"]) > 3


def test_views_that_share_an_evaluation_have_the_law_of_views_that_do_not() -> None:
    """Gumbel noise in every view against inversion in one pass: two samples of answers from the same law."""
    model, prompt, n = TinyDenoiser(2), torch.tensor([[1, 3, 5]]), 400
    options = {"steps": 6, "gen_length": 8, "block_length": 8}
    parameters = {"k": 4, "temperature_range": (0.0, 3.0), "beta_disagreement": 5.0, "remask_top_pct": 0.3}
    generator = torch.Generator().manual_seed(0)
    apart = [naive.sequential_views(model, prompt, **options, **parameters, mask_id=MASK_ID, generator=generator)
             for _ in range(n)]  # type: ignore[arg-type]  # fmt: skip
    ours = {f"tta_{name}" if name in ("k", "temperature_range") else name: value for name, value in parameters.items()}
    keys = [f"row-{i}" for i in range(n)]
    together, _ = tta_bench.generate(model, prompt.repeat(n, 1), "tta", **options, **ours, row_keys=keys)  # type: ignore[arg-type]
    answers = [[tuple(row.tolist()) for row in rows] for rows in (torch.cat(apart), together)]
    kinds = sorted({answer for sample in answers for answer in sample})
    table = np.array([[sample.count(kind) for kind in kinds] for sample in answers])
    often = table.sum(axis=0) >= 10
    assert often.sum() > 3, "the draws must matter"
    table = np.column_stack((table[:, often], table[:, ~often].sum(axis=1)))
    assert stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-3
