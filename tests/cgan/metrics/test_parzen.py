"""The Parzen estimator against scikit-learn, closed forms and float64 NumPy on real MNIST."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import KernelDensity

from cgan import CganError
from cgan.metrics import parzen
from cgan.metrics.parzen import choose_sigma, default_sigmas, evaluate, log_likelihoods, sigma_grid


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference(queries: np.ndarray, samples: np.ndarray, sigmas: tuple[float, ...]) -> np.ndarray:
    """The formula in float64 (S, m), distances by the expansion of the square: in float64 it loses nothing here."""
    q, s = queries.astype(np.float64), samples.astype(np.float64)
    squares = np.maximum((q * q).sum(1)[:, None] + (s * s).sum(1)[None] - 2 * q @ s.T, 0)
    nearest = squares.min(1)
    rows = []
    for sigma in sigmas:
        kernels = np.exp((nearest[:, None] - squares) / (2 * sigma**2)).mean(1)
        rows.append(np.log(kernels) - nearest / (2 * sigma**2) - q.shape[1] / 2 * math.log(2 * math.pi * sigma**2))
    return np.array(rows)


# The density


@pytest.mark.parametrize("d", [1, 300])
def test_equals_scikit_learns_kernel_density(d: int) -> None:
    samples, queries = uniform(70, d), 1.5 * uniform(40, d, seed=1)
    sigmas = (0.05, 0.2, 1.0, 7.0)
    ours = log_likelihoods(queries, samples, sigmas)
    assert ours.shape == (4, 40) and ours.dtype == torch.float64
    for sigma, row in zip(sigmas, ours, strict=True):
        density = KernelDensity(bandwidth=sigma, rtol=1e-10).fit(samples.double().numpy())
        np.testing.assert_allclose(row, density.score_samples(queries.double().numpy()), atol=2e-3, rtol=1e-5)


def test_a_common_shift_does_not_matter_and_far_from_every_sample_nothing_underflows() -> None:
    samples, queries = uniform(60, 300, dtype=torch.float64), uniform(40, 300, seed=1, dtype=torch.float64)
    once, shifted = (log_likelihoods(queries + shift, samples + shift, [0.1, 1.0]) for shift in (0, 1e6))
    torch.testing.assert_close(shifted, once, atol=2e-3, rtol=1e-6)
    far = log_likelihoods(torch.full((1, 2), 3000.0), torch.zeros(3, 2), [0.1])
    assert far.item() == pytest.approx(-2 * 3000**2 / 0.02 - math.log(2 * math.pi * 0.01), rel=1e-6)


@pytest.mark.parametrize(("memory_mib", "threads"), [(1, 3), (2, 1), (16, 2)])
def test_block_sizes_and_threads_do_not_change_the_result(memory_mib: int, threads: int) -> None:
    samples, queries = uniform(900, 784), uniform(130, 784, seed=1)
    sample_rows, query_rows, _ = parzen._plan(130, 900, 784, "cpu", threads, memory_mib)
    assert memory_mib == 16 or (sample_rows < 900 and query_rows < 130), "the blocks must really differ"
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ours = log_likelihoods(queries, samples, default_sigmas(), memory_mib=memory_mib)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(ours, reference(queries.numpy(), samples.numpy(), default_sigmas()), atol=5e-3)


# Precision, state, memory


def test_float32_stays_within_a_hundredth_of_a_nat_of_float64_on_mnist(mnist: dict[str, torch.Tensor]) -> None:
    samples = mnist["images"][:5_000]
    queries = torch.cat([mnist["images"][-150:], mnist["test_images"][:150], samples[:50]])
    ours = log_likelihoods(queries, samples, default_sigmas())
    difference = np.abs(ours.numpy() - reference(queries.numpy(), samples.numpy(), default_sigmas()))
    assert difference.max() < 3e-3  # the requirement is 1e-2
    assert difference[-1].max() < 1e-4


def test_reduced_precision_elsewhere_does_not_reach_it_and_stays_in_force() -> None:
    samples, queries = uniform(400, 784).requires_grad_(), uniform(200, 784, seed=1)
    plain = log_likelihoods(queries, samples, default_sigmas())
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    try:
        torch.set_float32_matmul_precision("medium")
        reduced = [backend.fp32_precision for backend in backends]
        with torch.autocast("cpu", torch.bfloat16):
            within = log_likelihoods(queries, samples, default_sigmas())
            assert torch.is_autocast_enabled("cpu")
        with pytest.raises(CganError):
            log_likelihoods(queries / 0, samples, [0.1])
        assert torch.get_float32_matmul_precision() == "medium"
        assert [backend.fp32_precision for backend in backends] == reduced
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(within, plain) and not plain.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_agrees_with_float64(mnist: dict[str, torch.Tensor]) -> None:
    samples, queries = mnist["images"][:10_000], mnist["test_images"][:500]
    torch.set_float32_matmul_precision("high")
    try:
        ours = log_likelihoods(queries, samples.cuda(), default_sigmas())
    finally:
        torch.set_float32_matmul_precision("highest")
    assert np.abs(ours.numpy() - reference(queries.numpy(), samples.numpy(), default_sigmas())).max() < 1e-2


@pytest.fixture(scope="module")
def many() -> torch.Tensor:
    return uniform(40_000, 784)


def test_memory_stays_under_the_bound_whatever_the_sizes(many: torch.Tensor, memory_grown: Callable[[], int]) -> None:
    # Without blocks it would be 120 MiB for the centred samples or queries alone; allocators and libraries keep some.
    log_likelihoods(many[:30], many, [0.1], memory_mib=32)
    log_likelihoods(many, many[:30], [0.1], memory_mib=32)
    assert memory_grown() < 64 << 20


# The procedure


def test_sigma_grid_is_numpys_logspace_and_refuses_what_is_no_grid() -> None:
    np.testing.assert_allclose(default_sigmas(), np.logspace(-1, 0, 10), rtol=1e-14)
    assert default_sigmas()[0] == 0.1 and default_sigmas()[-1] == 1.0
    assert sigma_grid(0.2, 0.2, 1) == (0.2,)
    for arguments in ((0, 1, 10), (1, 0.1, 10), (0.1, 1, 1), (0.1, 1, 0), (math.nan, 1, 3), (1, math.inf, 3)):
        with pytest.raises(CganError, match="sigmas from"):
            sigma_grid(*arguments)


def test_sigma_is_chosen_on_validation_and_the_test_set_scored_at_it_alone() -> None:
    samples, valid, test = uniform(300, 5), uniform(80, 5, seed=1), uniform(90, 5, seed=2) + 0.3
    sigmas = sigma_grid(0.02, 2, 12)
    expected = reference(valid.numpy(), samples.numpy(), sigmas).mean(1)
    index, scores = choose_sigma(valid, samples, sigmas)
    assert index == expected.argmax() and [score.sigma for score in scores] == list(sigmas)
    np.testing.assert_allclose([score.mean for score in scores], expected, atol=1e-3)
    result = evaluate(samples, valid, test, sigmas)
    row = reference(test.numpy(), samples.numpy(), (sigmas[index],))[0]
    assert result.sigma == sigmas[index] and result.sigmas == sigmas and not result.at_edge
    assert evaluate(samples, valid, test, sigmas[:2]).at_edge and not evaluate(samples, valid, test, [0.3]).at_edge
    assert result.test_mean == pytest.approx(row.mean(), abs=1e-3)
    assert result.test_se == pytest.approx(row.std() / math.sqrt(90), abs=1e-3)
    assert (result.valid_mean, result.valid_se) == (scores[index].mean, scores[index].se)
    assert (result.n_samples, result.n_valid, result.n_test, result.dim) == (300, 80, 90, 5)


# Mistakes


@pytest.mark.parametrize(
    ("queries", "samples", "sigmas", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(0, 1), [1.0], "samples must be"),
        (torch.zeros(3, 1, dtype=torch.uint8), torch.zeros(3, 1), [1.0], "uint8"),
        (torch.zeros(3, 2), torch.zeros(3, 4), [1.0], "2 values each and samples 4"),
        (torch.zeros(3, 1), torch.zeros(3, 1), [], "one Gaussian's width or more"),
        (torch.zeros(3, 1), torch.zeros(3, 1), [1.0, math.nan], "sigmas are .*nan"),
        (torch.zeros(3, 1), torch.tensor([[0.0], [math.nan]]), [1.0], "NaN or infinity"),
        (torch.tensor([[0.0], [math.inf], [0.0]]), torch.zeros(3, 1), [1.0], "NaN or infinity"),
        (torch.full((3, 1), 1e25), torch.tensor([[-1e25], [1e25]]), [1.0], "overflow float32"),
    ],
)
def test_mistakes_are_told(queries: torch.Tensor, samples: torch.Tensor, sigmas: list[float], message: str) -> None:
    with pytest.raises(CganError, match=message):
        log_likelihoods(queries, samples, sigmas)


def test_too_little_memory_names_what_is_enough() -> None:
    wide = torch.zeros(2, 200_000)
    with pytest.raises(CganError, match=r"give at least \d+") as error:
        log_likelihoods(wide, wide, [1.0], memory_mib=1)
    enough = int(str(error.value).split()[-1])
    assert log_likelihoods(wide, wide, [1.0], memory_mib=enough).shape == (1, 2)
