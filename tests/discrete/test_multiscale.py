"""Squeezing, splitting and the multi-scale architecture: every number in its place, and back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from instances import affine, conditional

from cnf.discrete import Affine, FactorOut, Permutation, Squeeze, Standardize, multiscale
from cnf.transforms import Compose, Inverse


def test_squeezing_puts_squares_of_pixels_into_channels():
    x = torch.randn(3, 2, 4, 6)
    z, log_det, _ = Squeeze().encode(x)
    assert torch.equal(z, F.pixel_unshuffle(x, 2))
    assert torch.equal(z[:, 5], x[:, 1, ::2, 1::2])
    assert torch.equal(log_det, torch.zeros(3))
    assert torch.equal(Squeeze().decode(z).value, x)
    assert torch.equal(Inverse(Squeeze()).encode(z).value, x)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3), (4, 4)])
def test_only_images_of_even_size_can_be_squeezed(shape):
    with pytest.raises(ValueError, match="even height and width"):
        Squeeze().encode(torch.zeros(1, *shape))
    with pytest.raises(ValueError, match="unsqueezing needs"):
        Squeeze().decode(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3)])
def test_split_maps_the_rest_and_leaves_the_first(shape):
    rest = affine((3, *shape[1:]))
    x = torch.randn(4, *shape)
    for method in ("encode", "decode"):
        value, log_det, _ = getattr(FactorOut(rest, kept=2), method)(x)
        expected = getattr(rest, method)(x[:, 2:])
        assert torch.equal(value[:, :2], x[:, :2])
        assert torch.equal(value[:, 2:], expected.value)
        assert torch.equal(log_det, expected.log_det)


def test_split_hands_on_context_and_initialization():
    rest = conditional(2).double()
    split = FactorOut(rest, kept=1).double()
    x, context = torch.randn(3, 4).double(), torch.randn(3, 2).double()
    assert split.context_dim == 2
    assert torch.equal(split.encode(x, context).value[:, 1:], rest.encode(x[:, 1:], context).value)
    assert torch.allclose(split.push(x, context), split.decode(x, context).value, rtol=0, atol=1e-7)
    split = FactorOut(Standardize(2), kept=1)
    data = torch.randn(50, 3) * 4 + 2
    split.initialize(data)
    assert split.data_dependent
    assert torch.equal(split.encode(data).value[:, 0], data[:, 0])
    assert torch.allclose(split.encode(data).value[:, 1:].std(0), torch.ones(2))


def test_each_scale_maps_half_of_what_the_one_before_it_did():
    """Scales that add 1, 10 and 100: who has passed which."""
    shifts = [Affine((12 * 2**i, 4 // 2**i, 4 // 2**i), shift=-(10.0**i)) for i in range(3)]
    value = multiscale(shifts, channels=3).encode(torch.zeros(2, 3, 8, 8)).value
    counts = {number: int((value[0] == number).sum()) for number in (1, 11, 111)}
    assert value.shape == (2, 3, 8, 8)
    assert counts == {1: 96, 11: 48, 111: 48}


def test_multiscale_inverts_exactly_and_adds_the_log_determinants_up():
    scales = [
        Compose([Permutation.random(8), affine((8, 4, 4))]),
        Compose([Permutation.random(16), affine((16, 2, 2))]),
        affine((32, 1, 1)),
    ]
    transform = multiscale(scales, channels=2).double()
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    z, log_det, _ = transform.encode(x)
    back, log_det_back, _ = transform.decode(z)
    assert z.shape == x.shape
    assert torch.allclose(back, x, rtol=0, atol=1e-12)
    expected = -sum(
        affine.scale.abs().log().sum() for affine in [scales[0].transforms[1], scales[1].transforms[1], scales[2]]
    )
    assert torch.allclose(log_det, expected.expand(3), rtol=0, atol=1e-10)
    assert torch.allclose(log_det_back, -log_det, rtol=0, atol=1e-10)


def test_permutations_alone_move_pixels_without_loss():
    transform = multiscale([Permutation.random(4), Permutation.random(8)], channels=1)
    x = torch.randperm(64).reshape(1, 1, 8, 8).float()
    z = transform.encode(x).value
    assert not torch.equal(z, x)
    assert torch.equal(z.flatten().sort().values, torch.arange(64.0))
    assert torch.equal(transform.decode(z).value, x)


def test_initialization_reaches_every_scale():
    transform = multiscale([Standardize((4, 2, 2)), Standardize((8, 1, 1))], channels=1)
    data = torch.randn(100, 1, 4, 4) * 3 + 5
    transform.initialize(data)
    assert torch.allclose(transform.encode(data).value.std(0), torch.ones(1, 4, 4), atol=1e-5)


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"scales must be a sequence of Transforms, got \[\]"):
        multiscale([], channels=1)
    with pytest.raises(ValueError, match="kept must be"):
        FactorOut(Compose([]), kept=0)
    with pytest.raises(ValueError, match=r"more than 3 features are needed to keep as many, got \(2, 3\)"):
        FactorOut(Compose([]), kept=3).encode(torch.zeros(2, 3))
