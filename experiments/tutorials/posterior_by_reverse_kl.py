# %% [markdown]
# # A posterior by reverse KL
#
# The density of parameters given data is known up to a constant: the prior times the likelihood. There are no samples
# of it to learn from. A flow q learns it from the formula alone: it draws samples, asks for their log-density under the
# target, and lowers `KL(q ‖ p)`.

# %%
import math
import os
from pathlib import Path

import torch
from torch.distributions import Normal

import cnf

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/posterior_by_reverse_kl")
torch.set_num_threads(1)
torch.manual_seed(0)

# %% [markdown]
# ## The question
#
# A signal decays, `y(s) = a exp(−b s)`, and six noisy measurements of it are given. What are amplitude a and rate b?
# Both are positive, so we work with `x = (log a, log b)`, on which the prior is standard normal.

# %%
times = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
measured = torch.tensor([1.9, 1.5, 0.7, 0.8, 0.2, 0.3])
noise = 0.3


def log_target(x):
    """log prior + log likelihood, (N, 2) to (N,); not normalised."""
    amplitude, rate = x.exp().unbind(1)
    signal = amplitude[:, None] * torch.exp(-rate[:, None] * times)
    return Normal(0.0, 1.0).log_prob(x).sum(1) + Normal(signal, noise).log_prob(measured).sum(1)


# %% [markdown]
# ## Training
#
# `ReverseKL` takes the target. It draws its own samples, so there is no data to give; `batch_size` says how many.
# Any model does; those that are quick to sample with their density are affine couplings, splines and continuous flows.

# %%
flow = cnf.build("nsf_coupling", event_shape=2, layers=4, hidden=32)
config = cnf.FitConfig(steps=20 if QUICK else 600, batch_size=256, learning_rate=2e-3, progress=False)
result = cnf.fit(flow, None, cnf.ReverseKL(log_target), config=config)
print({name: round(value, 3) for name, value in result.history[-1].items() if "effective" in name or "kl" in name})

# %% [markdown]
# ## How good is it?
#
# Importance weights `w = p̃ / q` of samples of q correct what is left. Their mean is the evidence, the constant that the
# target lacks; the effective sample size says how many of the draws count. In two dimensions a grid gives the truth.

# %%
with torch.no_grad():
    x, log_q = flow.sample_and_log_prob(5_000)
    log_w = log_target(x) - log_q
log_evidence = log_w.logsumexp(0) - math.log(len(log_w))
effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp() / len(log_w)

side = torch.linspace(-3, 3, 400)
grid = torch.cartesian_prod(side, side)
log_truth = log_target(grid)
log_constant = log_truth.logsumexp(0) + 2 * math.log(side[1] - side[0])
print(f"log evidence {log_evidence:.3f}, by the grid {log_constant:.3f}; effective samples {effective:.0%}")

# %% [markdown]
# Posterior means, corrected by the weights and by the grid:

# %%
weights = log_w.softmax(0)
mean, truth = weights @ x.exp(), log_truth.softmax(0) @ grid.exp()
print(f"mean amplitude {mean[0]:.3f}, truth {truth[0]:.3f}; mean rate {mean[1]:.3f}, truth {truth[1]:.3f}")

# %% [markdown]
# ## A picture
#
# Exact posterior, draws of it from the grid, and the flow.

# %%
draws = grid[torch.multinomial(log_truth.softmax(0), 2_000, replacement=True)]
draws = draws + (torch.rand_like(draws) - 0.5) * (side[1] - side[0])  # anywhere in the cell
picture = cnf.plotting.fit_figure(
    flow,
    draws,
    true_density=lambda x: log_target(x) - log_constant,
    samples=2_000,
    resolution=150,
    columns=("log a", "log b"),
)
print("picture", cnf.plotting.save_figure(picture, folder / "posterior.png"))
