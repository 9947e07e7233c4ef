"""A flow of tables: densities of columns of all kinds are normalised, and tables come back as they went in."""

from __future__ import annotations

import datetime
import itertools
import math

import numpy as np
import polars as pl
import pytest
import torch

from cnf import DataError, RungeKutta, TableFlow, reconfigure
from cnf.discrete import cells_context
from cnf.metrics import importance_log_prob
from cnf.tables import to_frame, to_numbers
from cnf.tables.evaluation import log_prob_of_one, marginals_of

KINDS = ["real", "positive", "zeros", "few", "many", "binary", "category", "wind", "day"]
DRAWS, ALL_DRAWS = 64, 40_000  # of each row, and of all where there are few rows


def frame_of(n: int = 400, seed: int = 0) -> pl.DataFrame:
    """A table with a column of every kind, which depend on each other."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=n)
    zeros = np.where(random.random(n) < 0.3, 0.0, np.exp(hidden + 0.3 * random.normal(size=n)))
    level = np.digitize(hidden + 0.5 * random.normal(size=n), [-0.8, 0.6])
    days = (200 * (hidden + random.normal(size=n))).round().astype(int)
    return pl.DataFrame(
        {
            "real": 1e6 + hidden + random.normal(size=n),
            "positive": np.exp(2 * hidden + random.normal(size=n)),
            "zeros": zeros,
            "few": random.poisson(np.exp(0.5 * hidden)).clip(0, 5),
            "many": (100 * (hidden + random.normal(size=n))).round().astype(int),
            "binary": np.where(hidden + random.normal(size=n) > 0, "yes", "no"),
            "category": np.array(["low", "mid", "high"])[level],
            "wind": (60 * (hidden + random.normal(size=n))) % 360,
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in days],
        }
    )


@pytest.fixture(scope="module")
def table() -> TableFlow:
    """A flow whose field is random, so that nothing holds by chance."""
    made = TableFlow(steps=1, kinds={"wind": "angle:360"}).fit(frame_of(), options={"hidden": (8, 8)})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.flow.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    made.flow = reconfigure(made.flow, solver=RungeKutta("rk4", steps=8))
    return made


def grid_of(table: TableFlow, place: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of a column in the units of the flow, and the measure of each."""
    marginals = marginals_of(table.flow)
    if marginals.levels[place]:
        return torch.arange(float(marginals.levels[place])), torch.ones(marginals.levels[place])
    if place in marginals.circles:
        points = torch.linspace(-math.pi, math.pi, 61)[:-1]
        return points, torch.full_like(points, 2 * math.pi / 60)
    scores = torch.zeros(161, len(KINDS))
    scores[:, place] = torch.linspace(-5.5, 5.5, 161)
    ends = marginals.values(scores).value[:, place]
    if place in marginals.whole:
        whole = torch.arange(ends.min().item(), ends.max().item() + 1)
        return whole, torch.ones_like(whole)
    spline = marginals.splines.knots[:, marginals.smooth.index(place)]
    low, high = spline[0, 0] - 4 / spline[2, 0], spline[0, -1] + 4 / spline[2, -1]
    outside = torch.linspace(low, spline[0, 0], 60), torch.linspace(spline[0, -1], high, 60)
    points = torch.cat((outside[0], spline[0, 1:-1:2], outside[1]))
    points = points[~torch.isin(points, torch.tensor(marginals.atoms[place]))]
    points, atoms = points.unique(), torch.tensor(marginals.atoms[place])
    widths = torch.zeros_like(points)
    widths[1:] += points.diff() / 2
    widths[:-1] += points.diff() / 2
    return torch.cat((points, atoms)), torch.cat((widths, torch.ones_like(atoms)))


def test_every_kind_is_what_it_should_be(table):
    marginals = marginals_of(table.flow)
    assert [column.kind for column in table.schema.columns][7:] == ["angle", "date"]
    assert (marginals.levels[3], marginals.levels[5:7], marginals.circles) == (6, (2, 3), (7,))
    assert set(marginals.whole) == {4, 8}
    assert marginals.atoms[2] == (pytest.approx(marginals.atoms[2][0]),)
    assert not table.exact
    assert table.likelihood == "a lower bound"


@pytest.mark.parametrize("place", range(len(KINDS)), ids=KINDS)
def test_one_cell_given_others_has_a_density_that_sums_to_one(table, place):
    points, widths = grid_of(table, place)
    rows = table.coding.encode(to_numbers(frame_of(1, seed=3), table.schema)).x.repeat(len(points), 1)
    rows[:, place] = points
    modelled = torch.arange(len(KINDS)) == place
    given = torch.tensor([True, False, True, False, True, True, False, True, True]) & ~modelled
    log_prob = log_prob_of_one(table.flow, rows, cells_context(rows, given, modelled), place, seed=0)
    assert (np.exp(log_prob) * widths.numpy()).sum() == pytest.approx(1, abs=4e-3)


PAIRS = [("few", "binary"), ("binary", "category"), ("category", "wind"), ("real", "binary"), ("zeros", "category")]
ALL_PAIRS = list(itertools.combinations(KINDS, 2))


def total_of(table: TableFlow, first: str, second: str) -> float:
    places = [KINDS.index(first), KINDS.index(second)]
    grids = [grid_of(table, place) for place in places]
    rows = torch.zeros(len(grids[0][0]) * len(grids[1][0]), len(KINDS))
    rows[:, places] = torch.cartesian_prod(grids[0][0], grids[1][0])
    modelled = torch.isin(torch.arange(len(KINDS)), torch.tensor(places))
    total, context = 0.0, cells_context(rows, False, modelled)
    weights = torch.outer(grids[0][1], grids[1][1]).flatten().double()
    draws = max(DRAWS, ALL_DRAWS // len(rows))
    torch.manual_seed(0)
    for some in torch.arange(len(rows)).split(2048):
        log_prob = importance_log_prob(table.flow, rows[some], context[some], samples=draws).value
        total += (log_prob.double().exp() * weights[some]).sum().item()
    return total


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_cells_have_a_density_that_sums_to_one(table, first, second):
    assert total_of(table, first, second) == pytest.approx(1, abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), ALL_PAIRS)
def test_two_cells_of_any_kinds_have_a_density_that_sums_to_one(table, first, second):
    assert total_of(table, first, second) == pytest.approx(1, abs=1e-2)


def test_the_probability_of_a_level_is_what_draws_of_its_noise_tend_to(table):
    coded = table.coding.encode(to_numbers(frame_of(20, seed=1), table.schema))
    given = np.arange(len(KINDS)) != 6
    exact = log_prob_of_one(table.flow, coded.x, coded.context(given), 6, seed=0)
    drawn = importance_log_prob(table.flow, coded.x, coded.context(given), samples=512).value
    assert np.abs(np.exp(exact) - drawn.exp().numpy()).max() < 0.02


def test_angles_have_no_edge(table):
    row = table.coding.encode(to_numbers(frame_of(1), table.schema)).x.repeat(2, 1)
    row[:, 7] = torch.tensor([-math.pi, math.pi - 1e-6])
    given = torch.arange(len(KINDS)) != 7
    with torch.no_grad():
        low, high = table.flow.log_prob(row, cells_context(row, given))
    assert abs(low - high) < 1e-5


def test_base_points_lead_back_to_the_same_cells(table):
    coded = table.coding.encode(to_numbers(frame_of(200), table.schema))
    context = coded.context(np.array([False, True, False, True, False, False, True, False, False]))
    with torch.no_grad():
        density = table.flow(coded.x, context)
        back = table.flow.transform.decode(density.z, context)
    discrete = [3, 4, 5, 6, 8]
    assert (back.value[:, discrete] == coded.x[:, discrete]).double().mean() > 0.99
    assert ((back.value[:, 2] == 0) == (coded.x[:, 2] == 0)).all()
    assert torch.allclose(back.value[:, [0, 1, 2, 7]], coded.x[:, [0, 1, 2, 7]], atol=5e-3)


def test_samples_have_the_names_the_types_and_the_levels_that_went_in(table):
    frame, samples = frame_of(), table.sample(500)
    assert samples.schema == frame.schema
    assert samples.null_count().sum_horizontal().item() == 0
    assert set(samples["category"]) <= set(frame["category"])
    assert samples["wind"].is_between(0, 360, closed="left").all()
    assert (samples["zeros"] == 0).any()
    numbers = to_numbers(samples, table.schema)
    assert to_frame(numbers, table.schema).equals(samples)


MADE = {
    "pandas": lambda frame: pytest.importorskip("pandas").DataFrame(frame.to_dict(as_series=False)),
    "pyarrow": lambda frame: pytest.importorskip("pyarrow").table(frame),
    "polars": lambda frame: frame,
}


@pytest.mark.parametrize("library", MADE)
def test_tables_come_back_in_the_library_that_they_came_in(table, library):
    given = MADE[library](frame_of(5).with_columns(real=None, category=None))
    filled = table.impute(given)
    assert type(filled) is type(given)


def test_imputing_leaves_what_is_there_and_fills_the_rest(table):
    frame = frame_of(30, seed=2)
    holes = frame.with_columns(pl.when(pl.int_range(30) % 3 == 0).then(None).otherwise(pl.col("few")).alias("few"))
    first, second = table.impute(holes, draws=2)
    kept = holes["few"].is_not_null()
    assert first["few"].null_count() == 0
    assert first.filter(kept).equals(frame.filter(kept))
    assert not first.equals(second)


def test_conditions_are_kept_and_checked(table):
    drawn = table.sample(4, given={"category": "mid", "few": 2})
    assert drawn["category"].to_list() == ["mid"] * 4
    assert drawn["few"].to_list() == [2] * 4
    rows = pl.DataFrame({"category": ["low", "high", None, "mid"]})
    assert table.sample(4, given=rows)["category"].to_list()[:2] == ["low", "high"]
    for given, message in (
        ({"category": "huge"}, "column 'category': 1 rows have levels that it had not before"),
        ({"colour": "red"}, "names columns that are not there, colour"),
        ({"few": 77}, "conditions in rows .* never occurred"),
        (rows.head(3), "expected conditions of one row or of 4 rows, got 3"),
    ):
        with pytest.raises(DataError, match=message):
            table.sample(4, given=given)


def test_scores_can_be_repeated_and_empty_cells_are_integrated_out(table):
    frame = frame_of(10, seed=4)
    some = frame.with_columns(real=pl.lit(None, dtype=pl.Float64))
    first = table.log_prob(frame, draws=4)
    assert np.array_equal(first, table.log_prob(frame, draws=4))
    assert not np.isnan(table.log_prob(some, draws=4)).any()
    both = table.log_prob(frame.select("real", "wind").with_columns(some.drop("real", "wind")), draws=4)
    assert np.array_equal(first, both)  # columns in another order


def test_what_a_column_contributes_is_its_density_given_the_others(table):
    frame = frame_of(5, seed=5)
    contributions = table.contributions(frame)
    assert list(contributions) == KINDS
    others = [name for name in KINDS if name != "category"]
    assert np.allclose(contributions["category"], -table.log_prob(frame, given=others))


def test_a_prediction_knows_its_levels_and_its_quantiles(table):
    frame = frame_of(12, seed=6)
    levels = table.predict(frame, "category", draws=50)
    assert levels.probabilities.shape == (12, 3)
    assert np.allclose(levels.probabilities.sum(1), 1)
    numbers = table.predict(frame, "positive", draws=50)
    assert (np.diff(numbers.quantiles([0.1, 0.5, 0.9])) > 0).all()
    assert ((numbers.pit > 0) & (numbers.pit < 1)).all()
    assert 0 <= numbers.coverage(0.9) <= 1
    with pytest.raises(ValueError, match="no values of 'real'"):
        table.predict(frame.drop("real"), "real", draws=10).coverage()


def test_a_saved_flow_is_the_same(table, tmp_path):
    table.save(tmp_path)
    loaded, frame = TableFlow.load(tmp_path), frame_of(5)
    assert loaded.schema == table.schema
    assert np.allclose(loaded.log_prob(frame, draws=2), table.log_prob(frame, draws=2))
    assert np.array_equal(loaded.validation, table.validation)
    assert loaded.sample(3).equals(table.sample(3))
