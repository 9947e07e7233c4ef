# %% [markdown]
# # From a velocity to a likelihood
#
# Flow matching trains a velocity field by regression, without solving an equation. The network may have been trained
# in another code. Given the velocity, the likelihood of every point follows from the change of variables. We train a
# plain PyTorch network by hand, wrap it, and get densities, samples and their errors.

# %%
import os
from pathlib import Path

import torch
from torch import nn

import cnf
from cnf.data import toy

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/velocity_to_likelihood")
torch.set_num_threads(1)
torch.manual_seed(0)

# %% [markdown]
# ## A network of one's own, trained as in any flow-matching code
#
# On the straight path `x_t = (1 − t) z + t x` between noise z and data x the velocity is `x − z`. The network sees the
# point and the time in one row, `[x, t]`, and learns the mean velocity at each place.

# %%
network = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
steps = 20 if QUICK else 2_000
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
truth = toy("moons")
for _ in range(steps):
    x, z, t = truth.sample(256), torch.randn(256, 2), torch.rand(256, 1)
    prediction = network(torch.cat([(1 - t) * z + t * x, t], 1))
    loss = (prediction - (x - z)).square().sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
print(f"mean squared error of the velocity {loss.item():.3f}")

# %% [markdown]
# ## The same network as a density
#
# `from_velocity` wraps it: `arguments` says how the network is called, here with one tensor `[x, t]`.
# Nothing is trained.

# %%
flow = cnf.from_velocity(network, event_shape=2, arguments="concat")
test = truth.sample(1_000)
with torch.no_grad(), cnf.count_evaluations() as count:
    log_prob = flow.log_prob(test)
gap = cnf.metrics.mean_and_error(truth.log_prob(test) - log_prob)
print(f"KL(truth ‖ flow) = {gap.mean:.3f} ± {gap.standard_error:.3f} nats, {count.evaluations} evaluations")

# %% [markdown]
# ## Cheaper estimates, and what they cost in accuracy
#
# The exact trace takes two products with the Jacobian here, one a dimension. In many dimensions one may estimate it
# with random probes (Hutchinson). `reconfigure` makes a flow with the same parameters and other settings.

# %%
cheap = cnf.reconfigure(flow, divergence=cnf.Hutchinson(probes=1), solver=cnf.RungeKutta("rk4", steps=8))
estimate = cheap.log_prob_with_error(test[:200], probes=4)
with torch.no_grad():
    exact = flow.log_prob(test[:200])
print(f"error of single rows: standard error {estimate.standard_error.mean():.3f} nats by the estimate itself,")
print(f"root mean square {(estimate.value - exact).square().mean().sqrt():.3f} nats against the exact trace")

# %% [markdown]
# ## Better by likelihood
#
# A field that was trained by matching is a good start for maximum likelihood: a short training polishes it. The phase
# says how: a loose tolerance is enough in training.

# %%
loose = cnf.RungeKutta("dopri5", rtol=1e-2, atol=1e-2)
phase = cnf.Phase(cnf.MaximumLikelihood(), solver=loose, learning_rate=2e-3)
cnf.fit(flow, truth.sample(10_000), [phase], config=cnf.FitConfig(steps=5 if QUICK else 200, progress=False))
with torch.no_grad():
    gap = cnf.metrics.mean_and_error(truth.log_prob(test) - flow.log_prob(test))
print(f"KL(truth ‖ flow) = {gap.mean:.3f} ± {gap.standard_error:.3f} nats after maximum likelihood")
picture = cnf.plotting.fit_figure(flow, test, true_density=truth.log_prob, samples=2_000, resolution=100)
print("picture", cnf.plotting.save_figure(picture, folder / "fit.png"))
