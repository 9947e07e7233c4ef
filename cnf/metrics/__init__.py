"""Numbers to report: likelihoods with their errors, divergences, bits per dimension, calibration, normalisation."""

from cnf.metrics.bits import bits_per_dim
from cnf.metrics.classes import class_log_probs
from cnf.metrics.conditionals import Cells, cells_given_others
from cnf.metrics.estimates import Estimate, mean_and_error
from cnf.metrics.importance import LogMean, importance_log_prob
from cnf.metrics.information import entropy, kl_divergence, kl_to
from cnf.metrics.integral import normalization
from cnf.metrics.mixtures import NormalMixture, kernel_density, normal, normal_mixture
from cnf.metrics.outliers import Terms, auroc, likelihood_ratio, log_prob_terms, perturbed, typicality
from cnf.metrics.predictive import crps, energy_score, interval_coverage, pit
from cnf.metrics.rows import Scored, log_prob_of_rows, score_rows

__all__ = [
    "Cells",
    "Estimate",
    "LogMean",
    "NormalMixture",
    "Scored",
    "Terms",
    "auroc",
    "bits_per_dim",
    "cells_given_others",
    "class_log_probs",
    "crps",
    "energy_score",
    "entropy",
    "importance_log_prob",
    "interval_coverage",
    "kernel_density",
    "kl_divergence",
    "kl_to",
    "likelihood_ratio",
    "log_prob_of_rows",
    "log_prob_terms",
    "mean_and_error",
    "normal",
    "normal_mixture",
    "normalization",
    "perturbed",
    "pit",
    "score_rows",
    "typicality",
]
