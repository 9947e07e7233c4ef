"""Continuous normalizing flows: vector field × divergence × regularizers × solver."""
