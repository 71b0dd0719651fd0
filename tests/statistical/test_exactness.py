"""Samplers against theory: joint distributions that can be enumerated, transition probabilities in closed form."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.exactness.joint import Joint, agreement, compare
from tests.toy import TableModel
from tta_bench import catalog
from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.distributions import Softmax, blocked, truncated
from tta_bench.sampling.sampler import sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.selection import take_highest
from tta_bench.sampling.uncertainty import gumbel
from tta_bench.types import Generation

N = 20_000
PARTS = [0.25, pytest.param(1.0, marks=pytest.mark.slow)]
"""How many of the draws are made: here a quarter, which doubles what may go unnoticed; all in ``make test-slow``."""

EXACT = ("random", "entropy", "margin")
"""Their order of positions does not look at what is drawn, so one at a time they sample the joint."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("sampler", EXACT)
def test_one_at_a_time_an_order_that_ignores_the_draw_samples_the_joint(
    sampler: str, part: float, record_property: Callable[[str, object], None]
) -> None:
    joint = Joint(seed=1)
    found = agreement(joint, sampler, int(part * N), temperature=1.0)
    record_property("total_variation", found.total_variation)
    assert found.worst < 4
    assert found.total_variation < 2 * found.expected
    assert abs(found.log_probability + joint.entropy) < 4 * found.standard_error


def test_committing_what_was_drawn_confidently_sharpens_the_joint() -> None:
    joint = Joint()
    found = agreement(joint, "low_confidence", N, temperature=1.0)
    assert found.total_variation > 20 * found.expected
    # Measured in experiments/exactness: 0.37 nats.
    assert found.log_probability + joint.entropy == pytest.approx(0.366, abs=4 * found.standard_error)


def test_all_at_once_loses_the_dependence() -> None:
    joint = Joint()
    found = agreement(joint, "random", N, steps=1, temperature=1.0)
    assert found.worst > 20
    assert found.log_probability + joint.entropy < -20 * found.standard_error


def test_the_comparison_itself_passes_draws_from_the_joint_and_fails_a_slightly_different_one() -> None:
    p = Joint(seed=2).p.numpy()
    cells = np.random.default_rng(0).choice(p.size, size=N, p=p.ravel())
    assert compare(p, np.stack(np.unravel_index(cells, p.shape), axis=1)).worst < 4
    other = 0.95 * p.ravel() + 0.05 / p.size
    cells = np.random.default_rng(0).choice(p.size, size=N, p=other)
    assert compare(p, np.stack(np.unravel_index(cells, p.shape), axis=1)).worst > 4


LENGTH, STEPS = 12, 8


def decode(name: str, rows: int, steps: int = STEPS, length: int = LENGTH, **parameters: object) -> Generation:
    """Decode with a model that says the same everywhere: token 0 with 0.6, token 1 with 0.3, token 2 with 0.1."""
    table = torch.tensor([0.6, 0.3, 0.1, 0.0], dtype=torch.float64).log().expand(length, -1)
    tokens = torch.full((rows, length), 3)
    noise = Noise(0, tuple(str(i) for i in range(rows)))
    return sample(
        Denoiser(TableModel(table)),
        catalog.entry("sampler", name, parameters).build(),
        Blocks(steps),
        tokens,
        tokens == 3,
        mask_id=3,
        noise=noise,
    )


def within_four_standard_errors(observed: Tensor, probability: Tensor) -> bool:
    """Whether as many of independent events happened (N,) as their probabilities (N,) say."""
    error = (probability * (1 - probability)).sum().sqrt()
    return bool((observed.double().sum() - probability.sum()).abs() <= 4 * error + 1e-9)


def rates(name: str, t: float, s: float) -> tuple[float, float]:
    """(sigma, probability of a commit) from time t to s, worked out from the paper's formulas at the default parameters."""
    eta = {"remdm_cap": 0.008, "remdm_rescale": 0.015, "remdm_loop": 0.02}[name]

    def alpha(u: float) -> float:
        if name != "remdm_loop":
            return 1 - u
        if u > 0.55:
            return (1 - u) * 0.9 / 0.45
        return 0.9 if u > 0.05 else 1 - u * 0.1 / 0.05

    a_t, a_s = alpha(t), alpha(s)
    most = min(1.0, (1 - a_s) / a_t) if a_t > 0 else 1.0
    sigma = {
        "remdm_cap": min(eta, most),
        "remdm_rescale": eta * most,
        "remdm_loop": min(eta, most) if 0.05 < t <= 0.55 else 0.0,
    }[name]
    return sigma, (a_s - (1 - sigma) * a_t) / (1 - a_t)


@pytest.mark.parametrize("name", ["remdm_cap", "remdm_rescale", "remdm_loop"])
def test_remdm_moves_as_its_formulas_say(name: str) -> None:
    steps = 16  # no time of the grid is t_on or t_off
    generation = decode(name, rows=2_000, steps=steps)
    remasked = 0
    for i, info in enumerate(generation.steps):
        sigma, commit = rates(name, 1 - i / steps, 1 - (i + 1) / steps)
        masked, committed = info.canvas.masked, info.canvas.committed
        assert within_four_standard_errors(info.committed[masked], torch.full((int(masked.sum()),), commit).double())
        if i < steps - 1:
            assert within_four_standard_errors(info.remasked[committed], torch.full((int(committed.sum()),), sigma).double())
        remasked += int(info.remasked.sum())
        # A negative control: three times the rate would be noticed.
        if sigma > 0.005 and committed.sum() > 5_000:
            tripled = torch.full((int(committed.sum()),), 3 * sigma).double()
            assert not within_four_standard_errors(info.remasked[committed], tripled)
    assert remasked > 100


@pytest.mark.parametrize("name", ["remdm_cap", "remdm_rescale"])
def test_remdm_keeps_the_marginals(name: str) -> None:
    generation = decode(name, rows=2_000)
    for i, info in enumerate(generation.steps):
        alpha = torch.full((info.tokens.numel(),), (i + 1) / STEPS).double()
        assert within_four_standard_errors((info.tokens != 3).flatten(), alpha)


@pytest.mark.parametrize("part", PARTS)
def test_remdm_conf_remasks_by_confidence_at_commit(part: float) -> None:
    generation = decode("remdm_conf", rows=int(part * 4_000), top_p=1.0)
    values = torch.tensor([0.6, 0.3, 0.1, 0.0], dtype=torch.float64)
    for i, info in enumerate(generation.steps[1:-1], start=1):
        committed = info.canvas.committed
        weight = torch.exp(-values[info.canvas.tokens]) * committed
        most = min(1.0, (1 - (i + 1) / STEPS) / (i / STEPS))
        sigma = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-9) * most
        for token in range(3):
            of_token = committed & (info.canvas.tokens == token)
            assert within_four_standard_errors(info.remasked[of_token], sigma[of_token])
        step = torch.full((int(info.canvas.masked.sum()),), 1 / (STEPS - i)).double()
        assert within_four_standard_errors(info.committed[info.canvas.masked], step)


@pytest.mark.parametrize("part", PARTS)
def test_dream_origin_commits_independently_at_the_rate_of_its_schedule(part: float) -> None:
    generation = decode("dream_origin", rows=int(part * 4_000), temperature=1.0)
    grid = np.linspace(1, 1e-3, STEPS + 1)
    for i, info in enumerate(generation.steps[:-1]):
        masked = info.canvas.masked
        rate = torch.full((int(masked.sum()),), 1 - grid[i + 1] / grid[i]).double()
        assert within_four_standard_errors(info.committed[masked], rate)
    assert generation.steps[-1].committed.equal(generation.steps[-1].canvas.masked)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0])
def test_candidates_in_the_loop_follow_the_tempered_softmax(temperature: float, part: float) -> None:
    tokens = decode("random", rows=int(part * 4_000), temperature=temperature).tokens
    counts = np.bincount(tokens.flatten().numpy(), minlength=3)
    assert agrees(counts, temperature)
    assert not agrees(counts, 1.2 * temperature)


def agrees(counts: np.ndarray, temperature: float) -> bool:
    """Whether tokens (3,) were drawn as often as the softmax at this temperature says."""
    p = np.array([0.6, 0.3, 0.1]) ** (1 / temperature)
    expected = counts.sum() * p / p.sum()
    keep = expected > 5
    alike = stats.chisquare(counts[keep], expected[keep] * counts[keep].sum() / expected[keep].sum()).pvalue > 1e-3
    return bool(alike and counts[~keep].sum() <= 5 + 4 * 5**0.5)


def test_inversion_has_the_law_of_gumbel_max() -> None:
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniform = torch.from_numpy(np.random.default_rng(0).random((N, 6)))
    by_gumbel = torch.bincount((logits / 0.7 + gumbel(uniform)).argmax(dim=1), minlength=6).numpy()
    by_inversion = torch.bincount(
        Softmax.of(blocked(logits.repeat(N, 1))).draws([0.7], uniform[None, :, 0])[0], minlength=6
    ).numpy()
    expected = N * torch.softmax(logits / 0.7, dim=0).numpy()
    for counts in (by_gumbel, by_inversion):
        assert stats.chisquare(counts, expected).pvalue > 1e-3
    wrong = N * torch.softmax(logits / 0.8, dim=0).numpy()
    assert stats.chisquare(by_gumbel, wrong).pvalue < 1e-6


def test_the_largest_of_score_plus_gumbel_are_a_draw_without_replacement() -> None:
    score = torch.tensor([1.0, 0.2, -0.5, 0.9], dtype=torch.float64)
    p = torch.softmax(score, dim=0).tolist()
    pairs = list(itertools.combinations(range(4), 2))
    expected = [N * (p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])) for i, j in pairs]
    uniform = torch.from_numpy(np.random.default_rng(3).random((N, 4)))
    chosen = take_highest(score + gumbel(uniform), torch.ones(N, 4).bool(), torch.full((N,), 2))
    counts = Counter(tuple(np.flatnonzero(row)) for row in chosen.numpy())
    assert stats.chisquare([counts[pair] for pair in pairs], expected).pvalue > 1e-3


def test_the_nucleus_holds_the_token_that_crosses_it_and_the_reference_variant_does_not() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = [truncated(logits, 0.0, p, None).isfinite().sum().item() for p in (0.4, 0.6, 0.9, 1.0)]
    assert kept == [1, 2, 3, 4]
    kept = [truncated(logits, 0.0, p, None, inclusive=False).isfinite().sum().item() for p in (0.4, 0.6, 0.9, 1.0)]
    assert kept == [1, 1, 2, 4]
    assert truncated(logits, 0.0, None, 2).isfinite().tolist() == [[True, True, False, False]]
    # The temperature comes first: at 2 the distribution is flatter and the same nucleus larger.
    assert truncated(logits, 2.0, 0.6, None).isfinite().sum() == 2
    assert truncated(logits, 2.0, 0.7, None).isfinite().sum() == 3
