# %% [markdown]
# # Your own parts
#
# A data set, a vector field, a layer, a divergence and an objective, written from nothing, put together, checked,
# trained, saved and loaded. Each part is one small class or function; `help(cnf.VectorField)`, `help(cnf.Transform)`,
# `help(cnf.Divergence)` and `help(cnf.Objective)` say what is expected of it.

# %%
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

import cnf

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/your_own_parts")
torch.set_num_threads(1)
torch.manual_seed(0)

# %% [markdown]
# ## A data set
#
# Anything with a length and rows: a map-style dataset of PyTorch. These rows lie around a spiral, and a fiftieth of
# them are outliers. They could as well be read from a file.


# %%
class Spiral(Dataset):
    """Noisy points around a spiral, with outliers."""

    def __init__(self, n, outliers=0.02):
        angle = 1.5 * math.pi * (1 + 2 * torch.rand(n, 1).sqrt())
        self.x = angle * torch.cat([angle.cos(), angle.sin()], 1) / 5 + 0.15 * torch.randn(n, 2)
        wrong = torch.rand(n) < outliers
        self.x[wrong] = 20 * torch.rand(int(wrong.sum()), 2) - 10

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index]


# %% [markdown]
# ## A vector field
#
# `forward(t, x, context)` gives the velocity; `t` is a scalar, or `(N,)`, a time for each row. That is all that is
# needed: the Jacobian comes from forward-mode differentiation. This field is a network with one hidden layer, for which
# the trace of the Jacobian has a closed form, `tr J = Σ_j σ'(a_j) (W V)_jj` with `a = W x + c t + b` and `f = V σ(a)`.
# To use it, `linearize` returns an object that knows the field at one time and place.


# %%
class Hidden(cnf.Linearization):
    """`f = V tanh(a)` with slopes `tanh'(a)`, (N, H)."""

    def __init__(self, x, activation, V, W):
        super().__init__(x)
        self.activation, self.V, self.W = activation, V, W
        self.slope = 1 - activation**2

    @property
    def velocity(self):
        return self.activation @ self.V.T

    def pushforward(self, v):
        return (v @ self.W.T * self.slope) @ self.V.T

    def vjp(self, v):
        return (v @ self.V * self.slope) @ self.W

    def trace(self):
        return self.slope @ (self.W * self.V.T).sum(1)


class OneLayer(cnf.VectorField):
    """A field with one hidden layer, `V tanh(W x + c t + b)`."""

    def __init__(self, dim, *, hidden):
        super().__init__()
        self.inner, self.outer = nn.Linear(dim + 1, hidden), nn.Linear(hidden, dim, bias=False)

    def activation(self, t, x):
        times = t.expand(len(x)).unsqueeze(1)
        return self.inner(torch.cat([x, times], 1)).tanh()

    def forward(self, t, x, context=None):
        return self.outer(self.activation(t, x))

    def linearize(self, t, x, context=None, prepared=None):
        return Hidden(x, self.activation(t, x), self.outer.weight, self.inner.weight[:, :-1])


# %% [markdown]
# A closed form is worth a check against automatic differentiation.

# %%
field, t, x = OneLayer(2, hidden=256), torch.tensor(0.3), torch.randn(5, 2)
jacobian = torch.func.vmap(torch.func.jacrev(lambda y: field(t, y.unsqueeze(0))[0]))(x)
here = field.linearize(t, x)
assert torch.allclose(here.trace(), jacobian.diagonal(dim1=1, dim2=2).sum(1), atol=1e-5)
assert torch.allclose(here.jacobian, jacobian, atol=1e-5)

# %% [markdown]
# ## A layer
#
# A `Transform` has two directions, each with its own log-determinant: `encode` from data to base, `decode` back. This
# one makes tails heavier or lighter, and skewed, in each column: `z = sinh(δ asinh(x) − ε)`.


# %%
class Tails(cnf.Transform):
    """Sinh-arcsinh of each column (Jones and Pewsey 2009)."""

    def __init__(self, dim):
        super().__init__()
        self.log_delta, self.epsilon = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def encode(self, x, context=None):
        inner = self.log_delta.exp() * x.asinh() - self.epsilon
        slope = self.log_delta + inner.cosh().log() - (1 + x**2).log() / 2
        return cnf.Mapped(inner.sinh(), slope.sum(1))

    def decode(self, z, context=None):
        inner = (z.asinh() + self.epsilon) / self.log_delta.exp()
        slope = -self.log_delta + inner.cosh().log() - (1 + z**2).log() / 2
        return cnf.Mapped(inner.sinh(), slope.sum(1))


layer = Tails(2)
nn.init.normal_(layer.log_delta, std=0.2)
z, log_det, _ = layer.encode(x)
back, log_det_back, _ = layer.decode(z)
assert torch.allclose(back, x, atol=1e-5)
assert torch.allclose(log_det + log_det_back, torch.zeros(5), atol=1e-5)

# %% [markdown]
# ## A divergence
#
# How the trace is found. `probe` draws the noise of one solve, `__call__` uses it at every evaluation. This one looks
# at k columns that it chooses at random, and is unbiased. (In two dimensions the exact trace is cheaper, of course.)
# A frozen dataclass, because settings do not change.


# %%
@dataclass(frozen=True)
class Columns(cnf.Divergence):
    """`tr J ≈ D/k Σ_i J_ii` over k random columns i of each row."""

    k: int = 1

    def probe(self, x):
        chosen = torch.randint(x.shape[1], (self.k, len(x)))
        return math.sqrt(x.shape[1]) * nn.functional.one_hot(chosen, x.shape[1]).to(x)

    def __call__(self, linearization, probe):
        return linearization.quadratic_form(probe)  # vᵀJv of each row, averaged over the k probes


probes = Columns(20_000)
estimate = probes(here, probes.probe(x))
assert torch.allclose(estimate, here.trace(), atol=0.05)

# %% [markdown]
# ## An objective
#
# A function, or any callable, of the flow, rows and their context. It returns a `cnf.Loss`, or the scalar alone. This
# one is a likelihood that leaves out the worst rows of a batch, so that outliers do not matter.


# %%
@dataclass(frozen=True)
class Trimmed:
    """The mean negative log-likelihood without the worst share of the rows."""

    share: float = 0.03

    def __call__(self, flow, x, context=None):
        nll = -flow.log_prob(x, context)
        kept = nll.sort().values[: len(nll) - int(self.share * len(nll))]
        return cnf.Loss(kept.mean(), {"worst": nll.max().detach()})


# %% [markdown]
# ## All together
#
# A flow is a transform and a base. Training takes the estimated trace and a loose tolerance; the flow itself keeps the
# exact trace and dopri5 at 1e-5 for evaluation.

# %%
flow = cnf.Flow(cnf.Compose([Tails(2), cnf.CNF(OneLayer(2, hidden=256))]), cnf.StandardNormal(2))
phases = [
    cnf.Phase(Trimmed(), share=1, divergence=Columns(2), solver=cnf.RungeKutta("rk4", steps=8), learning_rate=2e-2),
    cnf.Phase(Trimmed(), share=1, solver=cnf.RungeKutta("rk4", steps=8), learning_rate=1e-2),
]
config = cnf.FitConfig(steps=10 if QUICK else 600, progress=False)
result = cnf.fit(flow, Spiral(20_000), phases, validation=Spiral(1_000, outliers=0.0), config=config)
print(f"validation NLL {result.best_validation:.3f} nats")

# %% [markdown]
# Is it a density? It must integrate to one.

# %%
integral = cnf.metrics.normalization(flow, [-12, -12], [12, 12], points=60 if QUICK else 200)
print(f"integral over the plane {integral:.4f}")
picture = cnf.plotting.fit_figure(flow, Spiral(3_000).x, samples=3_000, resolution=100)
print("picture", cnf.plotting.save_figure(picture, folder / "fit.png"))

# %% [markdown]
# ## Saving and loading
#
# A flow that was put together by hand is put together again, and takes the weights of the folder.

# %%
cnf.save(flow, folder / "model")
fresh = cnf.Flow(cnf.Compose([Tails(2), cnf.CNF(OneLayer(2, hidden=256))]), cnf.StandardNormal(2))
again = cnf.load(folder / "model", into=fresh)
points = Spiral(50).x
with torch.no_grad():
    assert torch.equal(again.log_prob(points), flow.log_prob(points))
