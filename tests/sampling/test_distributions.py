from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tta_bench.sampling import logits as logits_module
from tta_bench.sampling.distributions import BLOCK, Mixture, Softmax, blocked, truncated
from tta_bench.sampling.logits import Logits, ModelOutputError

SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 1000]
"""Vocabularies of less than a block, whole blocks, and blocks and a rest."""


def some_logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logits spread over 40 nats, some of them minus infinity, one of each distribution finite."""
    source = np.random.default_rng(seed)
    values = torch.from_numpy(source.normal(scale=6, size=shape)).to(dtype)
    values[torch.from_numpy(source.random(shape) < 0.1)] = -torch.inf
    values[..., 0] = values[..., 0].nan_to_num(neginf=0.0)
    return values


def softmax(logits: Tensor) -> Softmax:
    return Softmax.of(blocked(logits).clone())


def drawn(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    return softmax(logits).draws([temperature], uniform[None])[0]


@pytest.mark.parametrize("vocabulary", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_a_softmax_tells_equals_its_definition(vocabulary: int, dtype: torch.dtype) -> None:
    logits = some_logits(4, 7, vocabulary, dtype=dtype)
    p = torch.softmax(logits.double(), dim=-1)
    found = softmax(logits)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    assert found.best.tolist() == logits.argmax(dim=-1).tolist()
    torch.testing.assert_close(found.entropy.double(), torch.special.entr(p).sum(dim=-1), **close)
    torch.testing.assert_close(found.probabilities.flatten(-2)[..., :vocabulary].double(), p, **close)
    tokens = torch.arange(7).expand(4, 7) % vocabulary
    own = p.gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(found.probability(tokens).double(), own, **close)
    torch.testing.assert_close(found.log_probability(tokens).double(), own.log(), rtol=1e-5, atol=1e-5)
    ordered = torch.cat((p, torch.zeros(4, 7, 1)), dim=-1).sort(dim=-1, descending=True).values
    torch.testing.assert_close(found.margin.double(), ordered[..., 0] - ordered[..., 1], **close)


@pytest.mark.parametrize("vocabulary", SIZES[1:])
def test_a_mixture_tells_of_the_mean(vocabulary: int) -> None:
    logits = some_logits(3, 5, vocabulary)
    p = torch.softmax(logits, dim=-1).mean(dim=0)
    mean = Mixture.of(softmax(logits))
    assert mean.best.tolist() == p.argmax(dim=-1).tolist()
    torch.testing.assert_close(mean.entropy, torch.special.entr(p).sum(dim=-1))
    tokens = torch.arange(5) % vocabulary
    torch.testing.assert_close(mean.probability(tokens), p.gather(-1, tokens[:, None])[:, 0])


def test_entropy_of_the_uniform_and_of_a_certain_distribution() -> None:
    logits = torch.stack((torch.zeros(4), torch.tensor([0.0, *[-torch.inf] * 3])))
    torch.testing.assert_close(softmax(logits).entropy, torch.tensor([math.log(4), 0.0]))


def test_of_equals_the_lowest_id_is_best() -> None:
    logits = torch.zeros(1, 400)
    logits[0, [130, 131, 399]] = 2.0
    assert softmax(logits).best.tolist() == [130]
    assert Mixture.of(softmax(logits)[None]).best.tolist() == [130]


def test_an_id_outside_the_vocabulary_has_no_probability() -> None:
    one, outside = softmax(torch.zeros(1, 3)), torch.tensor([5000])
    assert one.probability(outside).tolist() == [0.0]
    assert one.log_probability(outside).tolist() == [-math.inf]
    assert Mixture.of(one[None]).probability(outside).tolist() == [0.0]


@pytest.mark.parametrize("vocabulary", SIZES[1:])
def test_divergence_equals_its_definition(vocabulary: int) -> None:
    p, q = (some_logits(6, vocabulary, seed=s).nan_to_num(neginf=-50.0) for s in (1, 2))
    expected = torch.nn.functional.kl_div(
        q.double().log_softmax(dim=-1), p.double().log_softmax(dim=-1), reduction="none", log_target=True
    ).sum(dim=-1)
    found = softmax(p).divergence(softmax(q).log_probabilities())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_divergence_is_infinite_where_the_other_excludes_what_this_one_allows_and_only_there() -> None:
    two, one = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -torch.inf]])
    both, single = softmax(two), softmax(one)
    assert both.divergence(single.log_probabilities()).tolist() == [math.inf]
    assert single.divergence(both.log_probabilities()).item() == pytest.approx(math.log(2))
    assert single.divergence(single.log_probabilities()).tolist() == [0.0]


@pytest.mark.parametrize("vocabulary", [6, BLOCK, 700])
@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0])
def test_draws_follow_the_tempered_softmax(vocabulary: int, temperature: float) -> None:
    logits = some_logits(1, vocabulary) / 8
    n = 40_000
    uniform = torch.from_numpy(np.random.default_rng(1).random(n))
    tokens = drawn(logits.repeat(n, 1), temperature, uniform)
    expected = n * torch.softmax(logits[0].double() / temperature, dim=-1).numpy()
    counts = np.bincount(tokens.numpy(), minlength=vocabulary)
    assert not counts[logits[0].numpy() == -np.inf].any()
    assert fit(counts, expected) > 1e-3
    assert fit(counts, n * torch.softmax(logits[0].double() / (1.5 * temperature), dim=-1).numpy()) < 1e-6


def fit(counts: np.ndarray, expected: np.ndarray) -> float:
    """p-value of the chi-squared test, what is expected less than five times taken together."""
    rare = expected < 5
    counts, expected = (np.append(values[~rare], values[rare].sum()) for values in (counts, expected))
    keep = expected > 0
    statistic = ((counts[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    return float(stats.chi2.sf(statistic, max(1, keep.sum() - 1)))


def test_draws_have_the_law_of_the_published_gumbel_rule() -> None:
    """exp(l) / (-ln U)^T with a U for each entry, as LLaDA draws, and the inversion: two samples of one law."""
    logits, temperature, n = some_logits(1, 300, seed=3) / 6, 0.3, 40_000
    source = np.random.default_rng(2)
    noise = torch.from_numpy(source.random((n, 300)))
    published = (logits.double().exp() / (-noise.log()) ** temperature).argmax(dim=-1).numpy()
    ours = drawn(logits.repeat(n, 1), temperature, torch.from_numpy(source.random(n))).numpy()
    both = np.stack([np.bincount(tokens, minlength=300) for tokens in (published, ours)])
    often = both.sum(axis=0) >= 10
    table = np.column_stack((both[:, often], both[:, ~often].sum(axis=1)))
    assert stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-3
    other = drawn(logits.repeat(n, 1), 0.36, torch.from_numpy(source.random(n))).numpy()
    table[1] = np.append(np.bincount(other, minlength=300)[often], np.bincount(other, minlength=300)[~often].sum())
    assert stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue < 1e-6


@pytest.mark.parametrize("vocabulary", SIZES)
@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 2.0])
def test_a_draw_inverts_the_distribution_function(vocabulary: int, temperature: float) -> None:
    """Exactly, but where the number lies within rounding of a boundary: so it is the draw of the naive float64 inversion."""
    n = 2000
    logits = some_logits(n, vocabulary, seed=vocabulary)
    uniform = torch.from_numpy(np.random.default_rng(4).random(n))
    below = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    found = drawn(logits, temperature, uniform)
    upper = below.gather(1, found[:, None])[:, 0]
    lower = torch.where(found > 0, below.gather(1, (found - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    assert bool((uniform < upper + 1e-5).all())
    assert bool((uniform >= lower - 1e-5).all())
    naive = torch.searchsorted(below, uniform[:, None], right=True)[:, 0].clamp(max=vocabulary - 1)
    assert (found != naive).float().mean() <= 0.001


def test_draw_never_takes_an_impossible_token_at_the_ends() -> None:
    row = torch.full((3 * BLOCK,), -torch.inf)
    row[[BLOCK + 1, BLOCK + 2]] = 0.0
    uniform = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    for temperature in (1e-3, 1.0, 1e6):
        assert drawn(row.repeat(3, 1), temperature, uniform).tolist() == [BLOCK + 1, BLOCK + 2, BLOCK + 2]


def test_draw_at_temperature_0_takes_the_first_of_equals() -> None:
    assert drawn(torch.tensor([[0.0, 2.0, 2.0]]), 0.0, torch.zeros(1)).tolist() == [1]


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_the_nucleus_is_the_smallest_set_of_most_probable_tokens(top_p: float, inclusive: bool) -> None:
    logits = some_logits(2, 3, 900, seed=7) / 3
    logits[:, :, 100:160] = logits[:, :, :1] + 0.25  # equals, of which those with lower ids come first
    found = truncated(logits, 0.0, top_p, None, inclusive).isfinite()
    for kept, row in zip(found.flatten(0, 1), logits.flatten(0, 1), strict=True):
        p = torch.softmax(row, dim=-1).tolist()
        order = sorted(range(len(p)), key=lambda i: (-row[i].item(), i))
        expected, mass = [], 0.0
        for i in order:
            mass += p[i]
            if not inclusive and mass > top_p and expected:
                break
            expected.append(i)
            if mass > top_p:
                break
        assert abs(len(expected) - int(kept.sum())) <= 1  # a boundary within rounding
        assert kept.nonzero()[:, 0].tolist() == sorted(order[: int(kept.sum())])


def read(logits: Logits) -> tuple[Tensor, ...]:
    uniform = torch.from_numpy(np.random.default_rng(5).random(logits.raw.shape[2]))
    return logits.read(lambda v, part: (v[0].best, v[-1].entropy, v[0].margin, v[0].draws([0.7], uniform[None, part])[0]))


@pytest.mark.parametrize("entries", [1, 700, 2**26])
def test_the_parts_read_at_a_time_change_nothing(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, where = some_logits(2, 2, 11, 300, seed=8).nan_to_num(neginf=-30.0), torch.ones(1, 11, dtype=torch.bool)
    logits = Logits(raw, where, 0, 299, cfg_scale=0.5)
    whole = read(logits)
    monkeypatch.setitem(logits_module.ENTRIES, "cpu", entries)
    for one, other in zip(read(logits), whole, strict=True):
        assert torch.equal(one, other)


def test_guidance_and_mask_token() -> None:
    raw, where = some_logits(1, 2, 4, 10).nan_to_num(neginf=-3.0), torch.ones(1, 4, dtype=torch.bool)
    before = raw.clone()
    expected = raw[0, 1] + 1.5 * (raw[0, 0] - raw[0, 1])
    expected[:, 3] = -torch.inf
    for token, log_p in enumerate(expected.log_softmax(dim=-1).T):
        found = Logits(raw, where, 0, 3, cfg_scale=0.5).log_probability(torch.full((4,), token))
        torch.testing.assert_close(found, log_p)
    assert torch.equal(raw, before), "the model's own tensor was written to"


def test_numbers_are_at_least_float32() -> None:
    where = torch.ones(1, 1, dtype=torch.bool)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        logits = Logits(torch.zeros(1, 1, 1, 2, dtype=dtype), where, 0, 5)
        assert logits.probability(torch.tensor([1])).dtype == expected
        assert logits.probability(torch.tensor([1])).tolist() == [0.5]


def test_nothing_to_read_is_no_error() -> None:
    logits = Logits(torch.zeros(1, 1, 0, 4), torch.zeros(1, 3, dtype=torch.bool), 0, 1)
    assert [values.shape for values in read(logits)] == [(0,)] * 4


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_broken_logits_are_named_wherever_they_are(broken: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logits_module.ENTRIES, "cpu", 4)
    raw = torch.zeros(1, 1, 3, 4)
    raw[0, 0, 2] = broken
    where = torch.tensor([[True, False, True], [False, False, True]])
    with pytest.raises(ModelOutputError, match="step 6: the model's logits at row 1, position 2 have the maximum"):
        read(Logits(raw, where, 6, 1))


def test_draws_at_several_temperatures_are_the_draws_at_each() -> None:
    """Also where a temperature is half of another, whose weights are then squared, or comes twice."""
    n, temperatures = 500, [0.0, 0.075, 0.15, 0.225, 0.3, 0.3, 1.0]
    logits = some_logits(n, 400, seed=9) / 10
    uniform = torch.from_numpy(np.random.default_rng(6).random((len(temperatures), n)))
    together = softmax(logits).draws(temperatures, uniform)
    alone = torch.stack([drawn(logits, t, numbers) for t, numbers in zip(temperatures, uniform, strict=True)])
    assert (together != alone).float().mean() < 0.001
    assert len({tuple(tokens.tolist()) for tokens in together}) == len(temperatures)


def test_only_some_of_the_distributions() -> None:
    logits, where = some_logits(6, 200), torch.tensor([True, False, True, True, False, False])
    some, alone = softmax(logits).only(where), softmax(logits[where])
    for name in ("top", "shifted", "sums", "total", "entropy", "best"):
        assert torch.equal(getattr(some, name), getattr(alone, name))
    assert torch.equal(some.probabilities, alone.probabilities)
