"""Numbers to report: likelihoods with their errors, divergences, bits per dimension, calibration, normalisation."""

from cnf.metrics.bits import bits_per_dim
from cnf.metrics.conditionals import Cells, cells_given_others
from cnf.metrics.estimates import Estimate, mean_and_error
from cnf.metrics.importance import LogMean, importance_log_prob
from cnf.metrics.information import entropy, kl_divergence, kl_to
from cnf.metrics.integral import normalization
from cnf.metrics.mixtures import NormalMixture, kernel_density, normal, normal_mixture
from cnf.metrics.predictive import crps, energy_score, interval_coverage, pit
from cnf.metrics.rows import Scored, log_prob_of_rows, score_rows

__all__ = [
    "Cells",
    "Estimate",
    "LogMean",
    "NormalMixture",
    "Scored",
    "bits_per_dim",
    "cells_given_others",
    "crps",
    "energy_score",
    "entropy",
    "importance_log_prob",
    "interval_coverage",
    "kernel_density",
    "kl_divergence",
    "kl_to",
    "log_prob_of_rows",
    "mean_and_error",
    "normal",
    "normal_mixture",
    "normalization",
    "pit",
    "score_rows",
]
