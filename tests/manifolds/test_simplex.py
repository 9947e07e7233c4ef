"""Calibrations as flows on the simplex: the formulas, the group law, tiny probabilities, what is refused."""

from __future__ import annotations

import pytest
import torch

from cnf import Compose, Flow
from cnf.distributions import Dirichlet, LogisticNormal
from cnf.manifolds import Calibration, GeneralizedCalibration, Simplex, compose, smooth

N = 4


def matrix(n: int = N) -> torch.Tensor:
    """Invertible, with A1 = −0.8 · 1."""
    raw = torch.eye(n) + 0.4 * torch.randn(n, n)
    return (raw - raw.mean(1, keepdim=True) - 0.8 / n).double()


def points(rows: int = 20, n: int = N) -> torch.Tensor:
    return smooth(Simplex(n).sample(rows, dtype=torch.float64), 0.05)


def shift() -> torch.Tensor:
    return torch.randn(N).double()


def test_a_calibration_is_the_softmax_of_scaled_and_shifted_logarithms():
    c, p = shift(), points()
    flow = Calibration(N, temperature=1.7, shift=c)
    q, log_det, _ = flow.encode(p)
    assert torch.allclose(q, (p.log() / 1.7 + c).softmax(1))
    assert torch.allclose(log_det, (1.7 ** (1 - N) * (q / p).prod(1)).log())
    assert torch.allclose(flow.decode(p).value, (1.7 * p.log() - 1.7 * c).softmax(1))
    assert torch.equal(flow.calibrate(p), q)
    assert torch.allclose(flow.log_posteriors(p), q.log())


def test_a_generalized_calibration_is_the_softmax_of_an_affine_map_of_the_logarithms():
    a, c, p = matrix(), shift(), points()
    flow = GeneralizedCalibration(N, matrix=a, shift=c)
    q, log_det, _ = flow.encode(p)
    assert torch.allclose(q, (p.log() @ a.mT + c).softmax(1))
    assert torch.allclose(log_det, (torch.linalg.det(a).abs() / 0.8 * (q / p).prod(1)).log())
    inverse = torch.linalg.inv(a)
    assert torch.allclose(flow.decode(p).value, ((p.log() - c) @ inverse.mT).softmax(1))


@pytest.mark.parametrize("positive", [False, True])
def test_the_constraint_is_built_in_whatever_the_parameters(positive):
    flow = GeneralizedCalibration(N, positive=positive).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_()
    ones = torch.ones(N).double()
    assert torch.allclose(flow.matrix @ ones, ones)
    assert torch.linalg.matrix_rank(flow.matrix) == N
    if positive:
        assert torch.allclose(flow.matrix, flow.matrix.mT)
        assert torch.linalg.eigvalsh(flow.matrix)[0] > 0


@pytest.mark.parametrize("make", [Calibration, GeneralizedCalibration])
def test_it_starts_at_the_identity(make):
    p = points()
    q, log_det, _ = make(N).double().encode(p)
    assert torch.allclose(q, p, rtol=0, atol=1e-14)
    assert torch.allclose(log_det, torch.zeros(20).double(), rtol=0, atol=1e-13)


@torch.no_grad()
def test_temperature_scaling_is_a_calibration_without_shift():
    p = points()
    without, zero = (
        Calibration(N, temperature=2.5, bias=False),
        Calibration(N, temperature=2.5, shift=torch.zeros(N)),
    )
    assert torch.equal(without.double().encode(p).value, zero.double().encode(p).value)
    assert torch.equal(without.encode(p).log_det, zero.encode(p).log_det)
    assert torch.allclose(without.calibrate(p), (p.log() / 2.5).softmax(1))
    assert [name for name, _ in without.named_parameters()] == ["log_temperature"]
    assert torch.equal(without.shift, torch.zeros(N).double())


GROUP = {
    "calibrations": (
        lambda: (Calibration(N, temperature=1.4, shift=shift()), Calibration(N, temperature=-0.6, shift=shift())),
        Calibration,
    ),
    "temperatures": (
        lambda: tuple(Calibration(N, temperature=a, bias=False).double() for a in (2.0, 0.7, 1.3)),
        Calibration,
    ),
    "generalized": (
        lambda: tuple(GeneralizedCalibration(N, matrix=matrix(), shift=shift()) for _ in range(3)),
        GeneralizedCalibration,
    ),
    "mixed": (
        lambda: (Calibration(N, temperature=1.4, shift=shift()), GeneralizedCalibration(N, matrix=matrix()).double()),
        GeneralizedCalibration,
    ),
    "one": (lambda: (Calibration(N, temperature=1.4, shift=shift()),), Calibration),
}


@pytest.mark.parametrize(("make", "kind"), GROUP.values(), ids=GROUP)
@torch.no_grad()
def test_several_in_a_row_are_one(make, kind):
    members, p = make(), points()
    one, chain = compose(*members), Compose(members)
    assert type(one) is kind
    for name in ("encode", "decode"):
        expected, got = getattr(chain, name)(p), getattr(one, name)(p)
        assert torch.allclose(got.value, expected.value, rtol=0, atol=1e-10)
        assert torch.allclose(got.log_det, expected.log_det, rtol=0, atol=1e-10)
    assert (one.constant is None) == all(member.constant is None for member in members)


@torch.no_grad()
def test_composition_is_associative_and_has_inverses():
    a, b, c = (GeneralizedCalibration(N, matrix=matrix(), shift=shift()) for _ in range(3))
    p = points()
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    assert torch.allclose(left.calibrate(p), right.calibrate(p), rtol=0, atol=1e-12)
    inverse = GeneralizedCalibration(N, matrix=torch.linalg.inv(a.matrix), shift=-torch.linalg.solve(a.matrix, a.shift))
    assert torch.allclose(compose(a, inverse).calibrate(p), p, rtol=0, atol=1e-12)


def test_a_generalized_calibration_of_a_logistic_normal_is_one_with_another_covariance():
    flow = Flow(GeneralizedCalibration(3, matrix=matrix(3)), LogisticNormal(3)).double()
    samples = flow.sample(50_000).log()
    ratios = samples[:, :1] - samples[:, 1:]
    inverse = torch.linalg.inv(flow.transform.matrix)
    contrasts = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]]).double() @ inverse
    expected = contrasts @ (torch.eye(3) - 1 / 3).double() @ contrasts.mT
    assert torch.allclose(ratios.mT.cov(), expected, rtol=0.05, atol=0.05)


@torch.no_grad()
def test_tiny_probabilities_survive_single_precision():
    p = torch.tensor([[1.0, 1e-35, 1e-37], [0.3, 0.7, 1e-30]])
    for flow in (Calibration(3, temperature=0.5), GeneralizedCalibration(3, matrix=2 * torch.eye(3))):
        q, log_det, _ = flow.encode(p)
        assert (q > 0).all()
        Simplex(3).check(q)
        assert torch.allclose(q[1, :2], p[1, :2].square() / p[1, :2].square().sum())
        exact = flow.double().encode(p.double())
        assert torch.allclose(log_det.double(), exact.log_det, rtol=1e-4)
        back = flow.float().decode(flow.float().encode(p[1:]).value)
        assert back.log_det.isfinite().all()
    samples = Dirichlet([0.01, 0.01, 0.01]).sample(1000)
    assert Calibration(3, temperature=2.0).encode(samples).log_det.isfinite().all()


def test_smoothing_moves_into_the_simplex():
    p = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    assert torch.allclose(smooth(p, 0.1), torch.tensor([[0.95, 0.05], [0.275, 0.725]]))
    assert Calibration(2).encode(smooth(p)).log_det.isfinite().all()


EDGE = torch.tensor([[0.5, 0.5], [1.0, 0.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Calibration(1), "a simplex needs vectors of length n >= 2"),
        (lambda: GeneralizedCalibration(1), "a simplex needs vectors of length n >= 2"),
        (lambda: Calibration(2, temperature=0.0), "temperature must be a finite number other than 0"),
        (lambda: Calibration(2, shift=torch.zeros(3)), r"shift must be a finite vector \(2,\), got shape \(3,\)"),
        (lambda: Calibration(2, shift=torch.zeros(2), bias=False), "without bias there is no shift"),
        (lambda: GeneralizedCalibration(2, matrix=torch.zeros(3, 3)), r"matrix must be \(2, 2\) and finite"),
        (lambda: GeneralizedCalibration(2, matrix=torch.ones(2, 2)), "the matrix is singular"),
        (
            lambda: GeneralizedCalibration(2, matrix=torch.tensor([[1.0, -1.0], [-1.0, 1.0]])),
            "sum 0, so it is singular",
        ),
        (lambda: GeneralizedCalibration(2, matrix=torch.tensor([[1.0, 1.0], [0.0, 1.0]])), "A1 = λ1.*differ by 1"),
        (
            lambda: GeneralizedCalibration(2, positive=True, matrix=torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
            "positive definite, its least eigenvalue is -1",
        ),
        (lambda: GeneralizedCalibration(3, positive=True, matrix=torch.eye(3)[[1, 2, 0]]), "must be symmetric"),
        (lambda: Calibration(2).encode(EDGE), r"1 points have zeros.*rows \[1\].*smooth\(p, 1e-6\)"),
        (lambda: GeneralizedCalibration(2).decode(EDGE), "1 points have zeros"),
        (lambda: Calibration(2).encode(EDGE + 0.1), "2 of 2 points are not on the simplex: the farthest is 0.2 off"),
        (lambda: Calibration(2).encode(torch.tensor([[1.1, -0.1]])), "the farthest is 0.1 off"),
        (lambda: Calibration(3).encode(EDGE), r"expected vectors \(N, 3\), got \(2, 2\)"),
        (lambda: Calibration(2).encode(EDGE.expand(3, 2, 2)), r"expected vectors \(N, 2\), got \(3, 2, 2\)"),
        (lambda: Calibration(3).calibrate(EDGE), r"must have shape \(…, 3\), got \(2, 2\)"),
        (lambda: smooth(EDGE, 0.0), "epsilon must be .* above 0 and below 1"),
        (lambda: smooth(EDGE + 1), "not on the simplex"),
        (lambda: compose(), "one or more"),
        (lambda: compose(Calibration(2), Calibration(3)), r"got n = \[2, 3\]"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_conditional_calibrations_do_not_collapse():
    with pytest.raises(TypeError, match=r"chain it with cnf\.Compose"):
        compose(Calibration(2, context_dim=1))
