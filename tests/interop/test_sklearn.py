"""A flow as an estimator of scikit-learn: its own checks, and what its users do with estimators."""

from __future__ import annotations

import subprocess
import sys
import warnings

import joblib
import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import cnf
from cnf.interop.sklearn import FlowDensity

QUICK = {"options": {"hidden": 8}, "steps": 3, "random_state": 0}
CHECKS = [
    (model, check)
    for model in ("cnf", "realnvp")
    for _, check in estimator_checks_generator(FlowDensity(model, **QUICK), mark="skip")
]


def name_of(value: object) -> str:
    return value if isinstance(value, str) else value.func.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("model", "check"), CHECKS, ids=name_of)
@pytest.mark.filterwarnings("ignore")
def test_passes_every_check_of_scikit_learn(model, check):
    check(FlowDensity(model, **QUICK))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Correlated normal rows of large offset, whose entropy is known."""
    return np.random.default_rng(0).normal(size=(400, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + [1e9, -3.0]


ENTROPY = 2 * 0.5 * np.log(2 * np.pi * np.e)  # of these rows: the matrix has determinant 1


@pytest.fixture(scope="module")
def fitted(x) -> FlowDensity:
    return FlowDensity(options={"hidden": (16, 16)}, steps=120, random_state=0).fit(x)


def test_density_is_that_of_the_data_in_their_units(x, fitted):
    new = np.random.default_rng(1).normal(size=(2000, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + [1e9, -3.0]
    assert -ENTROPY - 0.15 < fitted.score(new) < -ENTROPY + 0.05
    assert fitted.score(x) == pytest.approx(fitted.score_samples(x).mean())
    assert fitted.score_samples(x).dtype == np.float64


def test_samples_follow_the_data_and_the_random_state(x, fitted):
    drawn = fitted.sample(2000, random_state=1)
    assert stats.ks_2samp(drawn[:, 0], x[:, 0]).pvalue > 1e-3
    np.testing.assert_array_equal(drawn, fitted.sample(2000, random_state=1))
    assert fitted.sample().shape == (1, 2)
    assert (fitted.sample(5, np.random.RandomState(1)) != fitted.sample(5, np.random.RandomState(2))).all()


def test_one_random_state_gives_one_flow_and_leaves_the_global_one(x):
    state = torch.get_rng_state()
    one, other = (FlowDensity(**QUICK).fit(x) for _ in range(2))
    np.testing.assert_array_equal(one.score_samples(x), other.score_samples(x))
    assert torch.equal(state, torch.get_rng_state())
    assert one.score(x) != FlowDensity(**{**QUICK, "random_state": 1}).fit(x).score(x)


def test_weights_count_like_copies(x):
    """Rows of weight 0 are not there; a heavy half of the rows draws the density to it."""
    half = (x[:, 0] > 1e9).astype(float)
    weighted = FlowDensity(**QUICK).fit(x, sample_weight=half)
    left_out = FlowDensity(**QUICK).fit(x[half > 0], sample_weight=half[half > 0])
    np.testing.assert_array_equal(weighted.score_samples(x), left_out.score_samples(x))
    settings = {**QUICK, "steps": 150, "validation_fraction": 0.0}
    heavy = FlowDensity("realnvp", **settings).fit(x, sample_weight=1 + 99 * half)
    even = FlowDensity("realnvp", **settings).fit(x)
    assert heavy.score(x[half > 0]) > even.score(x[half > 0]) + 0.3


def test_works_in_pipelines_cross_validation_and_grid_search(x):
    pipeline = make_pipeline(StandardScaler(), FlowDensity("realnvp", **QUICK))
    assert cross_val_score(pipeline, x, cv=3).shape == (3,)
    grid = GridSearchCV(FlowDensity(**QUICK), {"model": ["realnvp", "maf"], "steps": [1, 5]}, cv=2).fit(x)
    assert set(grid.best_params_) == {"model", "steps"}
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert grid.score(x) == grid.best_estimator_.score(x)


def test_copies_and_pickles(x, fitted, tmp_path):
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "flow_")
    joblib.dump(fitted, tmp_path / "density.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "density.joblib").score_samples(x), fitted.score_samples(x))
    scores = joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(fitted.score)(part) for part in (x[:9], x[9:]))
    assert len(scores) == 2


def test_columns_of_data_frames_are_known_by_their_names(x):
    frame = pl.DataFrame(x, schema=["load", "wind"])
    fitted = FlowDensity(**QUICK).fit(frame)
    assert list(fitted.feature_names_in_) == ["load", "wind"]
    with pytest.raises(ValueError, match="feature names"):
        fitted.score_samples(frame[["wind", "load"]])
    with pytest.raises(cnf.errors.DataError, match="load"):
        FlowDensity(**QUICK).fit(frame.with_columns(load=pl.lit(1.0)))


def test_takes_frames_of_pandas(x):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=["load", "wind"])
    assert cross_val_score(FlowDensity(**QUICK), frame, cv=2).shape == (2,)


def test_few_or_repeated_rows_have_no_validation(x):
    assert not any("validation_nll" in row for row in FlowDensity(**QUICK).fit(x[:40]).history_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cnf.DataWarning)  # of copies
        assert not any("validation_nll" in row for row in FlowDensity(**QUICK).fit(np.tile(x[:40], (9, 1))).history_)
    assert any("validation_nll" in row for row in FlowDensity(**QUICK).fit(x).history_)
    assert FlowDensity(**QUICK).fit(x).n_iter_ == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "nonsense"}, "unknown model 'nonsense'"),
        ({"options": {"width": 3}}, "cnf has no option width"),
        ({"steps": 0}, "steps must be"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number not below 0 and below 1, got 1.0"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
    ],
)
def test_wrong_parameters_are_named_when_fit_is_called(x, wrong, message):
    with pytest.raises(ValueError, match=message):
        FlowDensity(**{**QUICK, **wrong}).fit(x)


def test_wrong_calls_are_named(x, fitted):
    with pytest.raises(ValueError, match="n_samples must be"):
        fitted.sample(0)
    with pytest.raises(ValueError, match="above 0 in at least 2 rows, got 1 such rows"):
        FlowDensity(**QUICK).fit(x, sample_weight=np.eye(1, len(x))[0])


WITHOUT = """
import sys
sys.modules["sklearn"] = None  # to import it is an error
from cnf.interop import sklearn
import cnf
assert "FlowDensity" in dir(sklearn) and cnf.interop.sklearn is sklearn
try:
    sklearn.FlowDensity
except ImportError as error:
    print(error)
"""


def test_is_there_without_scikit_learn_and_names_the_extra_on_use():
    output = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert output.stdout == 'cnf.interop.sklearn.FlowDensity needs sklearn: pip install "cnf[sklearn]"\n'
