# %% [markdown]
# # The posterior of your own model in ten lines
#
# You have a simulator: parameters in, data out. You have measured something and want to know the parameters. There need
# be no formula of a likelihood: a conditional flow `q(θ | x)` learns the posteriors of all data from simulated pairs.

# %%
import os
from pathlib import Path

import torch

import cnf

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/posterior_of_your_model")
torch.set_num_threads(1)
torch.manual_seed(0)


# %% [markdown]
# ## The ten lines
#
# An epidemic in a town of 1000: each day an infected person infects `b` others as long as these are not immune, and
# recovers with probability `g`. Ten persons are ill on day 0. What is seen are the numbers of the ill on ten days, with
# an error of 10 %. The prior of `(log b, log g)` is normal.


# %%
def simulate(theta):
    b, g = theta.exp().unbind(1)
    well, ill, seen = torch.full_like(b, 990.0), torch.full_like(b, 10.0), []
    for _ in range(30):
        new = (b * ill * well / 1000).minimum(well)
        well, ill = well - new, ill + new - g.clamp(max=1) * ill
        seen.append(ill)
    return torch.stack(seen[2::3], 1).clamp(min=0.1).log() + 0.1 * torch.randn(len(theta), 10)


def prior(n):
    return torch.tensor([-0.9, -1.8]) + 0.5 * torch.randn(n, 2)


theta = prior(200 if QUICK else 4_000)
x = simulate(theta)
flow = cnf.build("nsf_autoregressive", event_shape=2, context_dim=10)
cnf.fit(flow, (theta, x), config=cnf.FitConfig(steps=20 if QUICK else 500, batch_size=256, progress=False))

truth = torch.tensor([[-0.7, -1.6]])
measured = simulate(truth)[0]
posterior = flow.sample(2_000, measured)
print("truth", truth[0].exp().tolist(), "posterior mean", posterior.exp().mean(0).tolist())

# %% [markdown]
# The context of `flow.sample` is what was measured; other measurements need no new training.

# %%
names = ("log b", "log g")
picture = cnf.plotting.corner_figure(prior(2_000), posterior, names, labels=("prior", "posterior"))
print("picture", cnf.plotting.save_figure(picture, folder / "posterior.png"))

# %% [markdown]
# ## Can it be trusted?
#
# New pairs tell. The rank of each true parameter among draws of its posterior must be uniform, and a region that claims
# to hold 90 % must hold the truth of 90 % of the pairs. Curves outside the grey band are a reason to simulate or to
# train more.

# %%
check = prior(100 if QUICK else 500)
data = simulate(check)
ranks = cnf.inference.sbc_ranks(flow, check, data, draws=100)
picture = cnf.plotting.ranks_figure(ranks, 100, columns=names)
print("picture", cnf.plotting.save_figure(picture, folder / "ranks.png"))

regions = {
    "highest density": cnf.inference.coverage(flow, check, data, draws=100),
    "random points": cnf.inference.tarp(flow, check, data, draws=100),
}
print("picture", cnf.plotting.save_figure(cnf.plotting.coverage_figure(regions), folder / "coverage.png"))

# %% [markdown]
# With a likelihood at hand, use `cnf.ReverseKL` or `cnf.inference.nuts` (see `posterior_by_reverse_kl.py`). Those who
# work with `sbi` give it a flow of this package: `NPE(density_estimator=cnf.interop.sbi.estimator("cnf"))`.
