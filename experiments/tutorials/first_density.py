# %% [markdown]
# # A first density
#
# Points in the plane come from an unknown density. We learn it, check it against the truth, which this example knows,
# and sample from it. Every cell is Python; an editor that knows `# %%` runs them one by one.
# With the environment variable CNF_QUICK the training is cut short, to see that everything runs.

# %%
import os
from pathlib import Path

import torch

import cnf
from cnf.data import toy

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/first_density")
torch.set_num_threads(1)  # small matrices are multiplied faster than threads are woken
torch.manual_seed(0)

# %% [markdown]
# ## The data
#
# Eight Gaussians on a circle, 10,000 rows of two columns. The first 1,000 rows are for validation: they are never
# trained on, and the best weights are those with the lowest negative log-likelihood (NLL) there.

# %%
truth = toy("8gaussians")
x = truth.sample(10_000)
validation, training = x[:1_000], x[1_000:]
print("data", tuple(x.shape), "entropy of the truth", round(truth.entropy, 3), "nats")

# %% [markdown]
# ## The model
#
# `cnf.build` assembles a model by name (`cnf list` prints all names). The default, "cnf", is a neural ODE: noise at
# t = 0 moves to data at t = 1 along the velocity that a network gives. The model standardises the data by itself, and
# its densities are in the units of the data.

# %%
flow = cnf.build("cnf", event_shape=2)
print(sum(parameter.numel() for parameter in flow.parameters()), "parameters")

# %% [markdown]
# ## Training
#
# `cnf.fit` follows the recipe of the model. No model can reach a lower mean NLL than the entropy of the truth.

# %%
config = cnf.FitConfig(steps=20 if QUICK else 600, progress=False)
result = cnf.fit(flow, training, validation=validation, config=config)
print(f"validation NLL {result.best_validation:.3f} nats after {result.steps} steps, {result.seconds:.0f} s")

# %% [markdown]
# ## Densities
#
# `log_prob` gives one number a row, in nats. Without `torch.no_grad()` it would keep what a backward pass needs.
# The mean difference to the true log-density is the Kullback-Leibler divergence.

# %%
test = truth.sample(2_000)
with torch.no_grad():
    log_prob = flow.log_prob(test)
divergence = cnf.metrics.mean_and_error(truth.log_prob(test) - log_prob)
print(f"KL(truth ‖ flow) = {divergence.mean:.3f} ± {divergence.standard_error:.3f} nats")

# %% [markdown]
# How far can such a number be trusted? The equation is solved numerically. `log_prob_with_error` compares each row with
# a solve that takes four times as many steps.

# %%
uncertain = flow.log_prob_with_error(test[:100])
print(f"largest error of the solver {uncertain.solver_error.abs().max():.1e} nats")

# %% [markdown]
# ## Samples and pictures

# %%
samples = flow.sample(1_000)
picture = cnf.plotting.fit_figure(flow, test, true_density=truth.log_prob, samples=2_000, resolution=100)
print("picture", cnf.plotting.save_figure(picture, folder / "fit.png"))
way = cnf.plotting.trajectory_figure(flow, n=2_000)
print("picture", cnf.plotting.save_figure(way, folder / "way.png"))

# %% [markdown]
# ## Saving
#
# A folder with the weights (safetensors) and a description (JSON). Loading it gives the same density.

# %%
cnf.save(flow, folder / "model")
again = cnf.load(folder / "model")
with torch.no_grad():
    assert torch.equal(again.log_prob(test[:100]), flow.log_prob(test[:100]))
