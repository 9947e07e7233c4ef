"""Plotting: what the pictures show is right, mistakes are named, and files appear whole or not at all."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import cnf
from cnf import plotting
from cnf.discrete import Affine, Logit
from cnf.plotting import animation

SHIFT, SCALE = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.5])
RNG = np.random.default_rng(0)


class Stretch(nn.Module):
    """The field `log(scale) x`: x(t) = scaleᵗ z."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        return SCALE.to(x).log() * x


class Drift(nn.Module):
    """The field `context`: x(t) = z + t · context."""

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        assert context is not None
        return context


def gaussian() -> cnf.Flow:
    """`N(SHIFT, SCALE²)`, known exactly."""
    return cnf.Flow(Affine(2, shift=SHIFT, scale=SCALE), cnf.StandardNormal(2))


def moving(field: nn.Module) -> cnf.Flow:
    return cnf.Flow(cnf.CNF(field, solver=cnf.RungeKutta("rk4", steps=6)), cnf.StandardNormal(2))


def conditional() -> cnf.Flow:
    return cnf.build("cnf", 2, 3, hidden=(8,))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(x: Tensor) -> Tensor:
    return -0.5 * ((x - SHIFT) / SCALE).square().sum(-1) - SCALE.log().sum() - math.log(2 * math.pi)


def points(axes: Axes) -> np.ndarray:
    """What a panel scatters."""
    (collection,) = (part for part in axes.collections if isinstance(part, PathCollection))
    return np.asarray(collection.get_offsets())


def shaded(axes: Axes) -> tuple[np.ndarray, float]:
    """The image of a panel, and the area of one of its cells."""
    (image,) = axes.images
    values, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    assert (left, right, bottom, top) == pytest.approx((*axes.get_xlim(), *axes.get_ylim()))
    assert image.origin == "lower"
    return values, (right - left) * (top - bottom) / values.size


def titled(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


# Two dimensions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian, lambda: moving(Stretch())], ids=["affine", "cnf"])
def test_density_panel_is_the_density(make: Callable[[], cnf.Flow]) -> None:
    flow = make()
    figure = plotting.fit_figure(flow, flow.sample(4_000), resolution=60)
    assert list(titled(figure)) == ["data", "learned density", "samples"]
    axes = titled(figure)["learned density"]
    image, area = shaded(axes)
    assert image.sum() * area == pytest.approx(1, abs=2e-3)
    rows, columns = image.shape
    x = np.linspace(*axes.get_xlim(), 2 * columns + 1)[1::2]
    y = np.linspace(*axes.get_ylim(), 2 * rows + 1)[1::2]
    grid = torch.tensor(np.stack(np.meshgrid(x, y), -1)).float()
    np.testing.assert_allclose(image, flow.log_prob(grid).detach().exp(), rtol=1e-3, atol=1e-6)


def test_cells_are_square_and_the_longer_side_has_the_resolution() -> None:
    figure = plotting.fit_figure(gaussian(), gaussian().sample(500), resolution=50)
    axes = titled(figure)["learned density"]
    rows, columns = shaded(axes)[0].shape
    assert columns == 50
    width, height = np.ptp(axes.get_xlim()) / columns, np.ptp(axes.get_ylim()) / rows
    assert width == pytest.approx(height, rel=0.02)


def test_exact_density_has_its_panel_and_the_same_colours() -> None:
    flow = gaussian()
    figure = plotting.fit_figure(flow, flow.sample(1_000), true_density=exact, resolution=40)
    assert list(titled(figure)) == ["data", "exact density", "learned density", "samples"]
    panels = [titled(figure)[name] for name in ("exact density", "learned density")]
    np.testing.assert_allclose(shaded(panels[0])[0], shaded(panels[1])[0], rtol=1e-4, atol=1e-7)
    assert panels[0].images[0].get_clim() == panels[1].images[0].get_clim()
    low, high = panels[0].images[0].get_clim()
    peak = math.exp(exact(SHIFT).item())
    assert low == 0
    assert 0.95 * peak < high <= peak


def test_scattered_points_are_data_and_samples() -> None:
    flow, data = gaussian(), gaussian().sample(300)
    figure = plotting.fit_figure(flow, data, resolution=10, samples=100, generator=seeded(1))
    shown = points(titled(figure)["data"])
    assert shown.shape == (100, 2)
    assert {tuple(row) for row in shown} <= {tuple(row) for row in data.double().tolist()}
    np.testing.assert_allclose(points(titled(figure)["samples"]), flow.sample(100, generator=seeded(1)), rtol=1e-6)
    figure = plotting.fit_figure(flow, data.numpy(), resolution=10)
    assert len(points(titled(figure)["data"])) == len(points(titled(figure)["samples"])) == 300


def test_limits_are_shared_isometric_and_cover_the_data() -> None:
    data = torch.rand(2_000, 2) * torch.tensor([8.0, 4.0])
    figure = plotting.fit_figure(gaussian(), data, resolution=10)
    for axes in figure.axes:
        assert axes.get_aspect() == 1
        assert axes.get_xlim() == figure.axes[0].get_xlim()
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    for limits, column in zip((axes.get_xlim(), axes.get_ylim()), data.T, strict=True):
        assert limits[0] < column.min()
        assert limits[1] > column.max()
    assert np.ptp(axes.get_xlim()) < 10  # and not much more


def test_limits_are_robust_to_outliers() -> None:
    data = torch.randn(5_000, 2)
    data[:10] *= 1e6
    figure = plotting.fit_figure(gaussian(), data, resolution=10)
    for limits in (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()):
        assert -5 < limits[0] < -3
        assert 3 < limits[1] < 5


def test_columns_of_other_units_have_scales_of_their_own() -> None:
    data = torch.randn(1_000, 2) * torch.tensor([1.0, 1_000.0])
    figure = plotting.fit_figure(gaussian(), data, resolution=20, columns=("height", "price in $ or $"))
    axes = figure.axes[1]
    assert axes.get_aspect() == "auto"
    assert np.ptp(axes.get_xlim()) < 10 < 5_000 < np.ptp(axes.get_ylim())
    assert shaded(axes)[0].shape == (20, 20)
    assert axes.get_xlabel() == "height"
    assert figure.axes[0].get_ylabel() == r"price in \$ or \$"
    figure.savefig(os.devnull, format="png")


def test_constant_column_can_be_drawn() -> None:
    figure = plotting.fit_figure(gaussian(), torch.tensor([[3.0, 1.0], [3.0, 2.0]]), resolution=10)
    assert figure.axes[0].get_xlim()[0] < 3 < figure.axes[0].get_xlim()[1]


def test_density_outside_the_support_is_zero() -> None:
    flow = cnf.Flow(Logit(), cnf.StandardNormal(2))
    figure = plotting.fit_figure(flow, torch.rand(1_000, 2), resolution=80)
    axes = titled(figure)["learned density"]
    image, area = shaded(axes)
    assert axes.get_xlim()[0] < 0 < 1 < axes.get_xlim()[1]
    assert image[0].max() == image[:, -1].max() == 0
    assert image.sum() * area == pytest.approx(1, abs=0.01)


def test_context_is_used_for_all_points() -> None:
    flow, context = moving(Drift()), torch.tensor([3.0, -2.0], dtype=torch.float64)  # converted to the flow's dtype
    figure = plotting.fit_figure(flow, torch.randn(2_000, 2) + context, context=context, resolution=50)
    axes = titled(figure)["learned density"]
    image, area = shaded(axes)
    assert image.sum() * area == pytest.approx(1, abs=2e-3)
    place = [
        (k + 0.5) / size for k, size in zip(np.unravel_index(image.argmax(), image.shape), image.shape, strict=True)
    ]
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    peak = (left + place[1] * (right - left), bottom + place[0] * (top - bottom))
    assert peak == pytest.approx(context.tolist(), abs=0.2)
    np.testing.assert_allclose(points(titled(figure)["samples"]).mean(0), context, atol=0.1)
    assert points(plotting.trajectory_figure(flow, context=context, n=500).axes[-1]).mean(0) == pytest.approx(
        context.tolist(), abs=0.2
    )


def test_drawing_leaves_the_flow_and_the_global_noise_alone() -> None:
    flow = gaussian()
    flow.add_module("normalization", nn.BatchNorm1d(2))
    flow.add_module("frozen", nn.Dropout().eval())
    before, state = [module.training for module in flow.modules()], torch.get_rng_state()
    data = flow.sample(50, generator=seeded())
    plotting.fit_figure(flow, data, resolution=5, generator=seeded())
    with pytest.raises(ValueError, match="one number for each of the 15 points"):
        plotting.fit_figure(flow, data, resolution=5, true_density=lambda x: x, generator=seeded())
    assert [module.training for module in flow.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_trajectory_leads_from_noise_to_data() -> None:
    flow, times = moving(Stretch()), (0.0, 0.25, 1.0)
    figure = plotting.trajectory_figure(flow, times=times, n=200, generator=seeded())
    assert [axes.get_title() for axes in figure.axes] == ["$t = 0$", "$t = 0.25$", "$t = 1$"]
    z = flow.base.sample(200, generator=seeded())
    for time, axes in zip(times, figure.axes, strict=True):
        np.testing.assert_allclose(points(axes), z * SCALE**time, rtol=1e-4, atol=1e-5)
    assert all(axes.get_xlim() == figure.axes[0].get_xlim() for axes in figure.axes)


@pytest.mark.parametrize("density", [True, False])
def test_animation_has_its_frames(tmp_path: Path, density: bool) -> None:
    path = plotting.path_animation(
        moving(Stretch()), tmp_path / "new" / "path.gif", n=2_000, frames=20, fps=25, hold=1.5, density=density,
        generator=seeded(),
    )  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == ["path.gif"]
    assert path.stat().st_size < 2e6
    with Image.open(path) as gif:
        assert gif.n_frames == 20
        assert gif.info["loop"] == 0
        pictures, durations = [], []
        for k in range(gif.n_frames):
            gif.seek(k)
            durations.append(gif.info["duration"])
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
    assert durations == [40] * 19 + [1500]
    assert np.abs(pictures[-1] - pictures[0]).mean() > 1
    assert (pictures[0][0, 0] == 255).all()  # white paper, in spite of the palette
    spreads = [spread(255 - picture[35:-15, 15:-15].mean((1, 2))) for picture in (pictures[0], pictures[-1])]
    assert spreads[1] == pytest.approx(0.5 * spreads[0], rel=0.2)  # SCALE halves the second coordinate


def test_a_finer_animation_is_larger_and_sharper(tmp_path: Path) -> None:
    still = moving(Drift())

    def last(name: str, **options: Any) -> np.ndarray:
        path = plotting.path_animation(still, tmp_path / name, frames=2, context=torch.zeros(2), **options)
        with Image.open(path) as gif:
            gif.seek(1)
            return np.asarray(gif.convert("L")).astype(float)

    coarse, fine = last("coarse.gif", n=5_000, resolution=50), last("fine.gif", n=5_000, resolution=100)
    assert fine.shape[1] == pytest.approx(2 * coarse.shape[1], abs=1)
    few, many = (
        animation._pictures(np.zeros((2, n, 2)), np.ones(1), density=True, bins=100)[0] for n in (30_000, 480_000)
    )
    assert dark(many) < 0.5 * dark(few)


def dark(picture: Image.Image) -> int:
    """Dark pixels in the middle, without title and frame."""
    return int((np.asarray(picture.convert("L"))[60:-20, 20:-20] < 200).sum())


def spread(weights: np.ndarray) -> float:
    """The standard deviation of a distribution over rows of pixels."""
    rows = np.arange(len(weights))
    mean = np.average(rows, weights=weights)
    return float(np.sqrt(np.average((rows - mean) ** 2, weights=weights)))


def test_animation_is_repeatable(tmp_path: Path) -> None:
    draw: Callable[[str], Path] = lambda name: plotting.path_animation(  # noqa: E731
        moving(Stretch()), tmp_path / name, n=200, frames=3, generator=seeded()
    )
    assert draw("a.gif").read_bytes() == draw("b.gif").read_bytes()


def test_states_between_knots_lie_on_lines() -> None:
    states = RNG.normal(size=(5, 7, 2))
    for time, expected in ((0, states[0]), (0.25, states[1]), (1, states[4]), (0.625, (states[2] + states[3]) / 2)):
        np.testing.assert_allclose(animation._between(states, time), expected)


def test_colours_of_densities_are_even_to_the_eye() -> None:
    """The curve runs in equal steps through Oklab, and ever darker."""
    srgb = plotting.DENSITY(np.linspace(0, 1, 11))[:, :3]
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array([[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]])
    lab = np.cbrt(cones) @ np.array([[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]])
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert (np.diff(lab[:, 0]) < -0.05).all()
    assert steps.max() < 1.1 * steps.min()


# Tables ---------------------------------------------------------------------------------------------------------


def grid_of(figure: Figure, size: int) -> dict[tuple[int, int], Axes]:
    places = [(i, j) for i in range(size) for j in range(i + 1)]
    assert len(figure.axes) == len(places)
    return dict(zip(places, figure.axes, strict=True))


def test_corner_histograms_are_densities() -> None:
    data, samples = RNG.normal(size=(3_000, 3)), RNG.normal(2, 1, size=(500, 3))
    grid = grid_of(plotting.corner_figure(data, samples, list("abc")), 3)
    filled, line = grid[1, 1].patches
    values, edges, _ = filled.get_data()
    inside = (data[:, 1] > edges[0]) & (data[:, 1] < edges[-1])
    assert (values * np.diff(edges)).sum() == pytest.approx(inside.mean())
    np.testing.assert_allclose(values, np.histogram(data[:, 1], edges)[0] / len(data) / np.diff(edges))
    np.testing.assert_allclose(
        line.get_data().values, np.histogram(samples[:, 1], edges)[0] / len(samples) / np.diff(edges)
    )
    assert filled.get_fill()
    assert not line.get_fill()
    assert grid[1, 1].get_ylim()[1] > values.max()


def test_corner_contours_enclose_what_they_say() -> None:
    data = RNG.normal(size=(10_000, 2)) @ np.array([[1, 0.8], [0, 0.6]])
    samples = RNG.normal(5, 1, size=(10_000, 2)) * [1, 2] + [-5, -10]
    axes = grid_of(plotting.corner_figure(data, samples, ("a", "b")), 2)[1, 0]
    filled, lines = (part for part in axes.collections if isinstance(part, QuadContourSet))
    for contours, rows in ((filled, data), (lines, samples)):
        for path, part in zip(contours.get_paths(), (0.9, 0.6, 0.3), strict=True):
            loop = path.to_polygons()[0] if contours is lines else max(path.to_polygons(), key=len)
            enclosed = type(path)(loop).contains_points(rows).mean()
            assert enclosed == pytest.approx(part, abs=0.05)
    assert axes.get_xlim()[0] < data[:, 0].min() * 0.9


def test_corner_names_stand_at_the_edges_only() -> None:
    rows = RNG.normal(size=(200, 3)) * [1, 1e6, 1e-5]
    figure = plotting.corner_figure(rows, rows, ["mass", "a name too long for any panel", "charge in $ of $"])
    grid = grid_of(figure, 3)
    assert [grid[2, j].get_xlabel() for j in range(3)] == [
        "mass", "a name too long for any… [$10^{6}$]", r"charge in \$ of \$ [$10^{-5}$]",
    ]  # fmt: skip
    assert grid[2, 0].get_ylabel() == grid[2, 2].get_xlabel()
    assert grid[0, 0].get_ylabel() == grid[1, 1].get_xlabel() == grid[1, 1].get_ylabel() == ""
    figure.canvas.draw()
    shown = {place: [tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() if tick.label1.get_visible()]
             for place, axes in grid.items()}  # fmt: skip
    assert all(bool(texts) == (place in {(1, 0), (2, 0)}) for place, texts in shown.items())
    assert all(len(text) <= 5 for text in shown[1, 0] + shown[2, 0])  # millions and millionths alike


def test_corner_has_one_legend_with_colours_that_differ() -> None:
    rows = RNG.normal(size=(100, 4))
    figure = plotting.corner_figure(rows, rows, list("abcd"), labels=("measured", "model"))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["measured", "model"]
    assert legend.get_title().get_text() == ""
    assert np.abs(np.subtract(to_rgb(plotting.BLUE), to_rgb(plotting.VERMILION))).max() > 0.5


@pytest.mark.parametrize("columns", [1, 2, 8, 11])
def test_corner_shows_the_first_columns(columns: int) -> None:
    rows = RNG.normal(size=(60, columns))
    figure = plotting.corner_figure(rows, torch.tensor(rows[:40]), [f"x{i}" for i in range(columns)])
    grid = grid_of(figure, min(columns, 8))
    assert grid[len(grid) and min(columns, 8) - 1, 0].get_xlabel() == "x0"
    title = figure.legends[0].get_title().get_text()
    assert title == ("first 8 of 11 columns" if columns == 11 else "")


def test_corner_of_a_constant_and_of_few_rows() -> None:
    rows = np.array([[1.0, 2.0, 0.0], [1.0, 3.0, 0.0], [1.0, 3.0, 1.0]])
    plotting.corner_figure(rows, rows, list("abc")).savefig(os.devnull, format="png")


# Images and training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_in_their_cells(channels: int) -> None:
    images = torch.rand(5, channels, 4, 6)
    figure = plotting.image_figure(images, columns=3)
    mosaic = np.asarray(figure.axes[0].images[0].get_array())
    assert mosaic.shape == (2 * 4 + 1, 3 * 6 + 2, 3)
    for k in range(5):
        top, left = 5 * (k // 3), 7 * (k % 3)
        cell = mosaic[top : top + 4, left : left + 6]
        np.testing.assert_allclose(cell, images[k].permute(1, 2, 0).expand(4, 6, 3), rtol=1e-6)
    assert (mosaic[5:, 14:] == 1).all()  # the place of the sixth
    assert (mosaic[4] == 1).all()
    width, height = figure.get_size_inches()
    assert width / height == pytest.approx(20 / 9)


def history(**columns: list[float]) -> list[dict[str, float]]:
    steps: dict[str, list[float]] = {"step": [10, 20, 30, 40]} | columns
    return [dict(zip(steps, row, strict=True)) for row in zip(*steps.values(), strict=True)]


def test_training_curves_are_the_history() -> None:
    loss, nll = [900.0, 2.5, 2.2, 2.1], [5.0, 2.4, math.inf, 2.3]
    rows = history(loss=loss, nll=loss, evaluations=[8, 9, 12, 14], validation_nll=nll)
    upper, lower = plotting.training_figure(rows).axes
    np.testing.assert_array_equal(upper.lines[0].get_xydata(), np.stack([[10, 20, 30, 40], loss], 1))
    np.testing.assert_array_equal(upper.lines[1].get_ydata(), [5, 2.4, math.nan, 2.3])
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), [8, 9, 12, 14])
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["loss", "validation NLL, best 2.3"]
    assert upper.get_ylabel() == "nats"
    assert lower.get_ylim()[0] == 0


def test_training_curves_leave_out_the_steep_start() -> None:
    loss = [1e6, *np.linspace(3, 2, 39)]
    rows = [{"step": step, "loss": value, "nll": value} for step, value in enumerate(loss, 1)]
    (axes,) = plotting.training_figure(rows).axes
    assert 1.5 < axes.get_ylim()[0] < 2
    assert 2.5 < axes.get_ylim()[1] < 4


def test_a_loss_in_other_units_has_its_own_panel() -> None:
    rows = history(loss=[0.5, 0.4, 0.3, 0.3], validation_nll=[3.0, 2.0, 2.0, 1.0], evaluations=[6, 6, 6, 6])
    assert [axes.get_ylabel() for axes in plotting.training_figure(rows).axes] == [
        "loss", "nats", "evaluations\nper solve",
    ]  # fmt: skip
    assert len(plotting.training_figure(history(loss=[1, 1, 1, 1])).axes) == 1


# Files -----------------------------------------------------------------------------------------------------------

MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml", "jpg": b"\xff\xd8", "webp": b"RIFF"}


@pytest.mark.parametrize("suffix", plotting.FORMATS)
def test_figures_are_saved_in_the_format_of_the_suffix(tmp_path: Path, suffix: str) -> None:
    figure = plotting.trajectory_figure(moving(Stretch()), n=10, times=(0, 1))
    path = plotting.save_figure(figure, tmp_path / "deep" / f"picture.{suffix}")
    assert path.read_bytes().startswith(MAGIC[suffix])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_resolution_of_a_saved_figure(tmp_path: Path) -> None:
    path = plotting.save_figure(Figure(figsize=(2, 1)), tmp_path / "picture.PNG", dpi=200)
    with Image.open(path) as picture:
        assert picture.size == (400, 200)


def test_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'plot\.bmp': the suffix must be one of \.png, \.pdf, \.svg, \.jpg, \.webp"):
        plotting.save_figure(Figure(), tmp_path / "plot.bmp")
    with pytest.raises(ValueError, match=r"written as \.gif, got 'path\.mp4'"):
        plotting.path_animation(moving(Stretch()), tmp_path / "path.mp4")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("no space left")

    path = tmp_path / "picture.png"
    monkeypatch.setattr(os, "replace", fail)
    for attempt in range(2):
        with pytest.raises(OSError, match="no space left"):
            plotting.save_figure(Figure(), path)
        assert [file.name for file in tmp_path.iterdir()] == ["picture.png"] * attempt
        path.write_bytes(b"older")
    with pytest.raises(OSError, match="no space left"):
        plotting.path_animation(moving(Stretch()), tmp_path / "path.gif", n=10, frames=2)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_pyplot_is_not_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # to import it is an error
    rows = RNG.normal(size=(50, 3))
    plotting.save_figure(plotting.corner_figure(rows, rows, list("abc")), tmp_path / "corner.png")
    plotting.path_animation(moving(Stretch()), tmp_path / "path.gif", n=10, frames=2)


# Mistakes --------------------------------------------------------------------------------------------------------

TABLE = np.zeros((10, 3))
HOLES = np.zeros((10, 2))
HOLES[[2, 7], 1] = math.nan, math.inf


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: plotting.fit_figure(cnf.build("cnf", 3), TABLE), r"fit_figure .* \(2,\), got \(3,\): .*corner_figure"),
        (lambda: plotting.trajectory_figure(cnf.build("cnf", (1, 8, 8))), r"got \(1, 8, 8\): .* image_figure"),
        (lambda: plotting.path_animation(cnf.build("cnf", 5), "a.gif"), r"path_animation draws .* got \(5,\)"),
        (lambda: plotting.fit_figure(gaussian(), TABLE), r"points \(N, 2\), got shape \(10, 3\): .* corner_figure"),
        (lambda: plotting.fit_figure(gaussian(), torch.zeros(0, 2)), r"data are empty, shape \(0, 2\)"),
        (
            lambda: plotting.fit_figure(gaussian(), HOLES),
            r"data have NaN or .* in 2 of 10 rows, first in rows \[2, 7\]",
        ),
        (lambda: plotting.fit_figure(conditional(), HOLES[:2]), r"conditional: give context, one vector \(3,\)"),
        (lambda: plotting.trajectory_figure(conditional()), r"conditional: give context, one vector \(3,\)"),
        (
            lambda: plotting.fit_figure(conditional(), HOLES[:2], context=torch.zeros(2, 3)),
            r"one vector \(3,\) for all points, got \(2, 3\)",
        ),
        (
            lambda: plotting.fit_figure(gaussian(), HOLES[:2], context=torch.zeros(2)),
            r"takes no context, got one of shape \(2,\)",
        ),
        (
            lambda: plotting.fit_figure(gaussian(), HOLES[:2], true_density=lambda x: x[:, 0] * math.nan, resolution=4),
            "one number for each of the .* points of the grid, got shape .* NaN",
        ),
        (lambda: plotting.trajectory_figure(moving(Stretch()), times=(0, 2)), "times must be an increasing sequence"),
        (lambda: plotting.path_animation(moving(Stretch()), "a.gif", frames=1), "frames >= 2.*got frames=1"),
        (
            lambda: plotting.corner_figure(TABLE, TABLE[:, :2], list("abc")),
            "3 in the data, 2 in the samples and 3 names",
        ),
        (lambda: plotting.corner_figure(TABLE, TABLE, list("ab")), "3 in the data, 3 in the samples and 2 names"),
        (
            lambda: plotting.corner_figure(TABLE[0], TABLE, list("abc")),
            r"data must be a table \(N, D\), got shape \(3,\)",
        ),
        (lambda: plotting.corner_figure(TABLE, TABLE[:0], list("abc")), r"samples are empty, shape \(0, 3\)"),
        (
            lambda: plotting.corner_figure(TABLE[:, :2], HOLES, list("ab")),
            "samples have NaN or infinite values in 2 of 10",
        ),
        (lambda: plotting.image_figure(torch.zeros(3, 8, 8)), r"\(N, 1, H, W\) or .* got \(3, 8, 8\)"),
        (lambda: plotting.image_figure(torch.zeros(0, 1, 8, 8)), r"not empty, got \(0, 1, 8, 8\)"),
        (lambda: plotting.image_figure(255 * torch.ones(1, 1, 2, 2)), r"\[0, 1\], got 255 to 255: scale or clamp"),
        (lambda: plotting.image_figure(torch.full((1, 1, 2, 2), math.nan)), r"\[0, 1\], got nan to nan"),
        (lambda: plotting.training_figure([]), "the history is empty"),
    ],
)
def test_mistakes_are_named(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mistake()


def test_discrete_flows_have_no_trajectory(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="needs a continuous transform"):
        plotting.trajectory_figure(gaussian())
    with pytest.raises(TypeError, match="needs a continuous transform"):
        plotting.path_animation(gaussian(), tmp_path / "path.gif")
    assert not list(tmp_path.iterdir())
