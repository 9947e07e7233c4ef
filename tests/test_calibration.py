"""Post-processing of a classifier: fitting finds the truth, lowers the held-out log-loss, and is deterministic."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnf.manifolds import Calibration, DirichletCalibration, GeneralizedCalibration, fit_calibration, smooth

N = 4
MODELS = {
    "temperature": lambda: Calibration(N, bias=False),
    "calibration": lambda: Calibration(N),
    "generalized": lambda: GeneralizedCalibration(N),
    "positive": lambda: GeneralizedCalibration(N, positive=True),
    "dirichlet": lambda: DirichletCalibration(N),
}
every = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def overconfident(rows: int, temperature: float = 3.0, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Posteriors whose logits are those of the truth, less a shift and times the temperature; and true classes."""
    truth = (1.5 * torch.randn(rows, N)).log_softmax(1).double()
    labels = torch.multinomial(truth.exp(), 1).squeeze(1)
    shift = torch.zeros(N) if shift is None else shift
    return smooth((temperature * (truth - shift)).softmax(1), 1e-9), labels


@every
def test_calibration_lowers_the_held_out_loss_of_an_overconfident_classifier(make):
    p, labels = overconfident(2000)
    held_out, classes = overconfident(5000)
    fitted = fit_calibration(p, labels, make())
    q = fitted.double().calibrate(held_out)
    before, after = F.nll_loss(held_out.log(), classes), F.nll_loss(q.log(), classes)
    assert after < before - 0.3
    assert torch.allclose(q.sum(1), torch.ones(5000).double())
    confidence, right = q.max(1).values.mean(), (q.argmax(1) == classes).double().mean()
    assert abs(confidence - right) < 0.03


def test_fitting_finds_the_temperature_and_the_shift():
    shift = torch.tensor([0.5, -0.5, 1.0, 0.0])
    fitted = fit_calibration(*overconfident(20_000, shift=shift), Calibration(N))
    assert abs(fitted.temperature - 3) < 0.1
    assert torch.allclose(fitted.shift - fitted.shift.mean(), shift - shift.mean(), atol=0.1)
    general = fit_calibration(*overconfident(20_000, shift=shift), GeneralizedCalibration(N))
    centre = torch.eye(N) - 1 / N
    assert torch.allclose(centre @ general.matrix @ centre, centre / 3, atol=0.05)


@every
def test_a_fit_is_deterministic_stationary_and_leaves_its_model(make):
    (p, labels), model = overconfident(500), make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (fit_calibration(p, labels, model) for _ in range(2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert all(parameter.dtype == torch.float32 and parameter.grad is None for parameter in first.parameters())
    precise = fit_calibration(p, labels, make().double())
    F.nll_loss(precise.log_posteriors(p), labels).backward()
    assert all(parameter.grad.abs().max() < 1e-5 for parameter in precise.parameters())


def test_richer_models_fit_better_on_their_own_data():
    p, labels = overconfident(300, shift=torch.tensor([0.5, -0.5, 1.0, 0.0]))
    losses = {}
    for name, make in MODELS.items():
        fitted = fit_calibration(p, labels, make().double())
        losses[name] = F.nll_loss(fitted.log_posteriors(p), labels).item()
    assert losses["generalized"] < losses["positive"] < losses["calibration"] < losses["temperature"]
    assert abs(losses["dirichlet"] - losses["generalized"]) < 1e-2  # one direction more, along the mean of the logs


def test_a_penalty_keeps_a_model_near_its_start():
    p, labels = overconfident(300)
    distances = []
    for penalty in (0.0, 0.1, 1e4):
        fitted = fit_calibration(p, labels, DirichletCalibration(N), penalty=penalty)
        distances.append((fitted.matrix - torch.eye(N)).norm().item())
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3


@every
@torch.no_grad()
def test_posteriors_may_have_any_batch_shape(make):
    (p, _), model = overconfident(60), make().double()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    whole = model.calibrate(p)
    assert torch.allclose(model.calibrate(p.reshape(3, 4, 5, N)), whole.reshape(3, 4, 5, N))
    torch.testing.assert_close(model.calibrate(p[0]), whole[0])
    assert model.calibrate(p[:0]).shape == (0, N)


def test_single_precision_posteriors_will_do():
    p, labels = overconfident(500)
    rough, exact = fit_calibration(p.float(), labels, Calibration(N)), fit_calibration(p, labels, Calibration(N))
    assert torch.allclose(rough.temperature, exact.temperature, rtol=1e-4)


@torch.no_grad()
def test_a_dirichlet_calibration_is_the_softmax_of_any_affine_map_of_the_logarithms():
    model, (p, _) = DirichletCalibration(N).double(), overconfident(20)
    assert torch.allclose(model(p), p)
    model.matrix.normal_(), model.shift.normal_()
    assert torch.allclose(model(p), (p.log() @ model.matrix.mT + model.shift).softmax(1))
    assert torch.equal(model(p), model.calibrate(p))


GOOD = (torch.full((3, 2), 0.5), torch.tensor([0, 1, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DirichletCalibration(1), "a simplex needs vectors of length n >= 2"),
        (lambda: fit_calibration(torch.eye(2), torch.tensor([0, 1]), Calibration(2)), "have zeros.*smooth them"),
        (lambda: fit_calibration(GOOD[0], GOOD[1] + 1, Calibration(2)), "labels must be whole numbers 0 … 1.*to 2"),
        (lambda: fit_calibration(GOOD[0], GOOD[1] / 2, Calibration(2)), "labels must be whole numbers"),
        (lambda: fit_calibration(GOOD[0], GOOD[1][:2], Calibration(2)), r"got \(3, 2\) and \(2,\)"),
        (lambda: fit_calibration(*GOOD, Calibration(3)), r"posteriors must be \(N, 3\)"),
        (lambda: fit_calibration(2 * GOOD[0], GOOD[1], Calibration(2)), "3 of 3 points are not on the simplex"),
        (lambda: fit_calibration(GOOD[0][:0], GOOD[1][:0], Calibration(2)), "with N > 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_conditional_calibration_is_not_fitted_to_posteriors():
    with pytest.raises(TypeError, match="a model without a context"):
        fit_calibration(*GOOD, Calibration(2, context_dim=1))
