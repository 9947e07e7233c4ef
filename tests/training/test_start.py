"""The data-dependent start of a run: it keeps to the budget, is shown where it takes long, and is cheap."""

from __future__ import annotations

import re
import time

import pytest
import torch
from tqdm import tqdm

import cnf
from cnf.starts import watched
from cnf.training import start


def correlated(rows: int, columns: int) -> torch.Tensor:
    x = torch.randn(rows, columns)
    return x + x.roll(1, 1).square()


def test_a_flow_that_is_all_start_keeps_to_the_seconds():
    flow, x = cnf.build("rbig", 20, layers=200), correlated(4000, 20)
    begun = time.perf_counter()
    result = cnf.fit(flow, x, config=cnf.FitConfig(seconds=0.5, progress=False))
    assert result.stopped == "budget"
    assert time.perf_counter() - begun < 10
    assert flow.log_prob(x[:100]).isfinite().all()


def test_it_is_whole_where_there_is_time():
    flow = cnf.build("rbig", 2, layers=2)
    assert cnf.fit(flow, correlated(200, 2), config=cnf.FitConfig(seconds=60, progress=False)).stopped == "initialized"


def test_a_start_that_is_cut_short_before_training_is_warned_of():
    flow = cnf.build("gaussianization", 3, layers=4)
    with pytest.warns(UserWarning, match="the start from the data was ended after 50% of the seconds"):
        cnf.fit(flow, correlated(500, 3), config=cnf.FitConfig(seconds=1e-3, progress=False))
    assert flow.log_prob(torch.zeros(1, 3)).isfinite().all()


def test_its_steps_are_shown_once_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(start, "tqdm", lambda **settings: tqdm(**{**settings, "delay": 0.0, "mininterval": 0.0}))
    cnf.fit(cnf.build("rbig", 2, layers=3), correlated(200, 2), config=cnf.FitConfig(progress=True))
    assert re.search(r"start: [34] steps", capsys.readouterr().err)


def test_a_refit_that_is_broken_off_is_no_mixture_of_two():
    layer = cnf.build("rbig", 3, layers=5).transform.transforms[-1]
    layer.initialize(correlated(300, 3))
    left = iter([False, False])

    def stop() -> bool:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt), watched(stop):
        layer.initialize(correlated(300, 3))
    assert int(layer.used) == 0


@pytest.mark.parametrize(("name", "options"), [("cnf", {}), ("gaussianization", {}), ("residual", {}), ("glow", {})])
def test_a_hundred_columns_of_a_thousand_rows_start_within_two_seconds(name, options):
    flow, x = cnf.build(name, 100, **options), correlated(1000, 100)
    begun = time.process_time()
    flow.initialize(x)
    assert time.process_time() - begun < 2
