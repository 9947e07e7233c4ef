"""Discrete transforms, one family a file."""

from cnf.discrete.any_conditional import AnyConditional
from cnf.discrete.augmentation import Augment
from cnf.discrete.autoregressive import Autoregressive
from cnf.discrete.cells import States, cells_context
from cnf.discrete.conditional import Conditional, Regression
from cnf.discrete.coupling import CouplingLayer, alternating, checkerboard, half
from cnf.discrete.dequantization import Dequantize
from cnf.discrete.destructors import Destructor, GaussianDestructor, Gaussianized, NormalCDF, chain
from cnf.discrete.determinants import log_abs_det
from cnf.discrete.elementwise import Affine, Logit, Softplus
from cnf.discrete.fixed_points import FixedPoint
from cnf.discrete.free_form import EncoderDecoder, LearnedInverse
from cnf.discrete.gaussianization import GaussianizationLayer
from cnf.discrete.glow import glow_step, multiscale_glow
from cnf.discrete.histograms import HistogramDestructor, TreeDestructor
from cnf.discrete.householder import Householder
from cnf.discrete.implicit import Equation, solution
from cnf.discrete.interpolants import Splines, identity_splines
from cnf.discrete.levels import LevelMarginals
from cnf.discrete.linear import DenseLinear, Linear, LULinear, invertible_conv1x1
from cnf.discrete.log_dets import ExactLogDet, LogDet, PowerSeries, RussianRoulette
from cnf.discrete.maps import AffineMap, ElementwiseMap, LogisticMixture, Shift
from cnf.discrete.marginals import MarginalGaussianization, fit_splines
from cnf.discrete.mixed import MixedMarginals
from cnf.discrete.multiscale import FactorOut, Squeeze, multiscale, multiscale_halves
from cnf.discrete.normalization import ActNorm, BatchNorm
from cnf.discrete.permutations import Permutation
from cnf.discrete.planar import Planar, Radial
from cnf.discrete.rbig import RBIG
from cnf.discrete.residual import Residual, with_log_det
from cnf.discrete.roots import Monotone, solve_monotone
from cnf.discrete.rotations import ROTATIONS, Rotation, random_rotation
from cnf.discrete.splines import CircularSpline, RationalQuadratic
from cnf.discrete.standardize import Standardize, StandardizeContext
from cnf.discrete.whitening import Whiten

__all__ = [
    "RBIG",
    "ROTATIONS",
    "ActNorm",
    "Affine",
    "AffineMap",
    "AnyConditional",
    "Augment",
    "Autoregressive",
    "BatchNorm",
    "CircularSpline",
    "Conditional",
    "CouplingLayer",
    "DenseLinear",
    "Dequantize",
    "Destructor",
    "ElementwiseMap",
    "EncoderDecoder",
    "Equation",
    "ExactLogDet",
    "FactorOut",
    "FixedPoint",
    "GaussianDestructor",
    "GaussianizationLayer",
    "Gaussianized",
    "HistogramDestructor",
    "Householder",
    "LULinear",
    "LearnedInverse",
    "LevelMarginals",
    "Linear",
    "LogDet",
    "LogisticMixture",
    "Logit",
    "MarginalGaussianization",
    "MixedMarginals",
    "Monotone",
    "NormalCDF",
    "Permutation",
    "Planar",
    "PowerSeries",
    "Radial",
    "RationalQuadratic",
    "Regression",
    "Residual",
    "Rotation",
    "RussianRoulette",
    "Shift",
    "Softplus",
    "Splines",
    "Squeeze",
    "Standardize",
    "StandardizeContext",
    "States",
    "TreeDestructor",
    "Whiten",
    "alternating",
    "cells_context",
    "chain",
    "checkerboard",
    "fit_splines",
    "glow_step",
    "half",
    "identity_splines",
    "invertible_conv1x1",
    "log_abs_det",
    "multiscale",
    "multiscale_glow",
    "multiscale_halves",
    "random_rotation",
    "solution",
    "solve_monotone",
    "with_log_det",
]
