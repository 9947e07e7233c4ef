"""Predictions of columns whose levels are numbers, or texts."""

from __future__ import annotations

import numpy as np
import pytest

from cnf.tables.prediction import prediction_of

PLACES = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])  # of four draws for two rows


def test_levels_that_are_numbers_are_predicted_as_numbers() -> None:
    """Whatever their order: the place of a level is not its value."""
    prediction = prediction_of("rooms", PLACES, np.array([0.0, np.nan]), (10, 2))
    assert prediction.mean is not None
    assert prediction.mean.tolist() == [8.0, 4.0]
    assert prediction.quantiles([0.0, 1.0]).tolist() == [[2.0, 10.0], [2.0, 10.0]]
    assert prediction.crps is not None
    assert prediction.crps[0] == pytest.approx(2.0 - 0.5 * 4.0)  # E|Y − 10| − ½ E|Y − Y´|, over different draws
    assert np.isnan(prediction.crps[1])


def test_truth_and_falsehood_are_one_and_zero() -> None:
    prediction = prediction_of("alone", PLACES, np.full(2, np.nan), (True, False))
    assert prediction.mean is not None
    assert prediction.mean.tolist() == [0.75, 0.25]


def test_texts_have_probabilities_and_no_mean() -> None:
    prediction = prediction_of("city", PLACES, np.array([0.0, 1.0]), ("Lyon", "Rome"))
    assert prediction.mean is None
    assert prediction.crps is None
    assert prediction.probabilities is not None
    assert prediction.probabilities.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert repr(prediction) == "Prediction of 'city' in 2 rows, 4 draws each"
