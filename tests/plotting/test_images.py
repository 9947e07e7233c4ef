"""Pictures of flows of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cnf
from cnf.plotting import classes_shown, image_figure, images_animation, interpolation_figure, samples_figure
from cnf.plotting.images import shades

LEVELS = 5


def flow_of(context_dim: int = 0, name: str = "realnvp") -> cnf.Flow:
    return cnf.build(name, (1, 4, 4), context_dim, levels=LEVELS, hidden=(8, 8) if name == "cnf" else 4)


def pixels(figure) -> np.ndarray:
    return np.asarray(figure.axes[0].images[0].get_array())


def test_samples_are_drawn_as_shades_of_their_levels() -> None:
    flow = flow_of()
    shown = pixels(samples_figure(flow, rows=2, columns=3, generator=torch.Generator().manual_seed(0)))
    images = flow.sample(6, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(shown, pixels(image_figure(images / (LEVELS - 1), columns=3)))


def test_rows_of_temperatures_are_of_the_same_noise() -> None:
    flow = cnf.build("cnf", (1, 4, 4), hidden=(4, 4), preprocess="logit")  # at rest: the logit of the noise
    shown = pixels(samples_figure(flow, columns=2, temperatures=(0.0, 1.0), generator=torch.Generator().manual_seed(0)))
    z = flow.base.sample(2, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([flow.transform.push(0 * z), flow.transform.push(z)]).detach()
    assert np.allclose(shown, pixels(image_figure(expected, columns=2)))


def test_each_column_is_a_class() -> None:
    shown = pixels(samples_figure(flow_of(12), rows=2, context=classes_shown(12)))
    assert shown.shape == (2 * 5 - 1, 10 * 5 - 1, 3)
    assert classes_shown(0) is None


@pytest.mark.parametrize("context_dim", [0, 3])
def test_a_row_of_images_between_two_begins_and_ends_with_them(context_dim: int) -> None:
    flow = cnf.build("cnf", (1, 4, 4), context_dim, levels=LEVELS, hidden=(8, 8))
    ends = torch.randint(LEVELS, (2, 3, 1, 4, 4)).float()
    contexts = (torch.eye(3), torch.eye(3).flip(0)) if context_dim else None
    shown = pixels(interpolation_figure(flow, *ends, steps=4, contexts=contexts))
    for place, side in ((0, 0), (3, 1)):
        column = pixels(image_figure(shades(flow, ends[side]), columns=1))
        assert np.allclose(shown[:, 5 * place : 5 * place + 4], column)


def test_the_noise_of_images_between_others_is_that_of_the_generator() -> None:
    flow, ends, state = flow_of(), torch.zeros(1, 1, 4, 4), torch.get_rng_state()
    first, second = (
        pixels(interpolation_figure(flow, ends, ends + 4, generator=torch.Generator().manual_seed(1))) for _ in range(2)
    )
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["cnf", "ffjord"])
def test_the_way_from_noise_ends_at_the_samples(name: str, tmp_path: Path) -> None:
    flow = flow_of(name=name)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # equal pictures would be one in a GIF
    noise = torch.Generator().manual_seed(0)
    path = images_animation(flow, tmp_path / "way.gif", rows=2, columns=3, frames=3, generator=noise)
    gif = Image.open(path)
    gif.seek(2)
    last = np.asarray(gif.convert("L")) / 255
    samples = flow.sample(6, generator=torch.Generator().manual_seed(0))
    mosaic = pixels(image_figure(shades(flow, samples), columns=3))[..., 0]
    scale = last.shape[0] // mosaic.shape[0]
    assert np.abs(last[::scale, ::scale] - mosaic).max() < 0.02


def test_other_flows_are_refused(tmp_path: Path) -> None:
    flow = cnf.build("cnf", 2)
    with pytest.raises(ValueError, match=r"a flow of images \(C, H, W\), got one of events \(2,\)"):
        samples_figure(flow)
    with pytest.raises(ValueError, match="a flow of images and frames >= 2"):
        images_animation(flow, tmp_path / "x.gif")
    with pytest.raises(TypeError, match="needs a continuous transform"):
        images_animation(flow_of(), tmp_path / "x.gif")
    with pytest.raises(ValueError, match="as many images at both ends"):
        interpolation_figure(flow_of(), torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))
