# %% [markdown]
# # Conditional densities, and a table of one's own
#
# A process has a yield and a purity, and both depend on its temperature. We learn the density of the two given the
# temperature: first in Python, then with the command line, from a table.

# %%
import math
import os
import subprocess
import sys
from pathlib import Path

import torch

import cnf

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/conditional_and_table")
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)
torch.manual_seed(0)

# %% [markdown]
# ## The data
#
# Made up, so that the truth is known: the yield rises with the temperature and then falls, its noise is skewed (a
# shifted exponential), and the purity follows the yield.


# %%
def measure(temperature):
    """Yield and purity at each temperature, (N, 2)."""
    loss = torch.empty_like(temperature).exponential_()  # mean 1
    amount = 80 - (temperature - 60) ** 2 / 40 - 4 * loss
    purity = 0.9 - 0.01 * loss + 0.005 * torch.randn_like(temperature)
    return torch.stack([amount, purity], 1)


def true_log_prob(x, temperature):
    """Of the same process, (N,)."""
    loss = (80 - (temperature - 60) ** 2 / 40 - x[:, 0]) / 4
    z = (x[:, 1] - 0.9 + 0.01 * loss) / 0.005
    return torch.where(loss > 0, -loss, -math.inf) - math.log(4) - z**2 / 2 - math.log(0.005 * math.sqrt(2 * math.pi))


temperature = 40 + 40 * torch.rand(10_000)
x, context = measure(temperature), temperature[:, None]  # (10000, 2) and (10000, 1)

# %% [markdown]
# ## In Python
#
# A conditional model has `context_dim` columns of context. Rows and their contexts go to `fit` as a pair.

# %%
flow = cnf.build("nsf_autoregressive", event_shape=2, context_dim=1, hidden=64, layers=3)
config = cnf.FitConfig(steps=20 if QUICK else 800, progress=False)
result = cnf.fit(flow, (x[1_000:], context[1_000:]), validation=(x[:1_000], context[:1_000]), config=config)
print(f"validation NLL {result.best_validation:.3f} nats")

# %% [markdown]
# A context belongs to each row, or one context to all of them. A density in these units may be far above 1, and its
# logarithm positive: the purity varies in the third digit.

# %%
test_temperature = 40 + 40 * torch.rand(2_000)
test = measure(test_temperature)
with torch.no_grad():
    gap = true_log_prob(test, test_temperature) - flow.log_prob(test, test_temperature[:, None])
print(f"KL(truth ‖ flow) = {gap.mean():.3f} nats")

at_50 = flow.sample(5_000, torch.tensor([50.0]))
print("mean yield at 50 degrees", f"{at_50[:, 0].mean():.2f}", "truth", 80 - 100 / 40 - 4)

# %% [markdown]
# `distribution` gives a batch of distributions, one for each condition, which PyTorch's tools understand.

# %%
posterior = flow.distribution(torch.tensor([[45.0], [60.0], [75.0]]))
print("samples for three temperatures", tuple(posterior.sample((1_000,)).shape))

# %% [markdown]
# Samples at 50 degrees, drawn by the truth and by the flow:

# %%
truth_at_50 = measure(torch.full((5_000,), 50.0))
picture = cnf.plotting.corner_figure(truth_at_50, at_50, ["yield", "purity"], labels=("truth", "flow"))
print("picture", cnf.plotting.save_figure(picture, folder / "at_50_degrees.png"))

# %% [markdown]
# ## From the command line
#
# The same table as a file with a header. `--context` names the columns that the density of the others depends on.

# %%
rows = torch.cat([context, x], 1)
lines = ["temperature,yield,purity", *(",".join(f"{value:.6g}" for value in row) for row in rows.tolist())]
(folder / "process.csv").write_text("\n".join(lines) + "\n")


def command(*words):
    """Type a command of cnf."""
    print("$ cnf", *words)
    subprocess.run([sys.executable, "-m", "cnf", *words], cwd=folder, check=True)


model = "run_quick" if QUICK else "run"
if not (folder / model).exists():
    budget = ("--steps", "20" if QUICK else "300", "--no-progress")
    command("fit", "process.csv", "--out", model, "--context", "temperature", *budget)
command("score", model, "process.csv", "--out", "log_prob.csv")
command("sample", model, "-n", "3", "--given", "temperature=50")
