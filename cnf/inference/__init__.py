"""Flows for inference: evidence by importance sampling, Markov chains, and checks of amortised posteriors."""

from cnf.inference.chains import Chains, metropolis, nuts, potential
from cnf.inference.evidence import Defence, Evidence, UnreliableWarning, importance
from cnf.inference.latent import marginal_log_prob
from cnf.inference.posteriors import Coverage, coverage, sbc_ranks, tarp

__all__ = [
    "Chains",
    "Coverage",
    "Defence",
    "Evidence",
    "UnreliableWarning",
    "coverage",
    "importance",
    "marginal_log_prob",
    "metropolis",
    "nuts",
    "potential",
    "sbc_ranks",
    "tarp",
]
