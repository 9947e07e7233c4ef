"""The flow of `benchmark_speed` on diffrax, in an interpreter of its own, so that nobody else needs jax.

    python diffrax_process.py PROBLEM.npz THREADS

reads tasks (train, evaluate, sample) from standard input, one a line, and answers each with a line of JSON. The flow is
that of diffrax's own example (kidger.site/diffrax, "Continuous normalising flow"), in batches: one step size for all.
"""

from __future__ import annotations

import json
import os
import sys
import time

THREADS = int(sys.argv[2])
if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as there are cores
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])

import diffrax  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

PROBLEM = {name: jnp.asarray(value) for name, value in np.load(sys.argv[1]).items()}
WEIGHTS = [(PROBLEM[f"weight{i}"], PROBLEM[f"bias{i}"]) for i in range(sum("weight" in name for name in PROBLEM))]
TOLERANCE = float(PROBLEM["tolerance"])


def field(weights, t, x):
    h = jnp.concatenate([x, jnp.full((len(x), 1), t, x.dtype)], 1)
    for weight, bias in weights[:-1]:
        h = jnp.tanh(h @ weight.T + bias)
    return h @ weights[-1][0].T + weights[-1][1]


def augmented(t, state, weights):
    x, _ = state
    velocity, pull = jax.vjp(lambda x: field(weights, t, x), x)
    if "probe" in PROBLEM:
        return velocity, (pull(PROBLEM["probe"])[0] * PROBLEM["probe"]).sum(1)
    basis = jnp.broadcast_to(jnp.eye(x.shape[1])[:, None], (x.shape[1], *x.shape))
    return velocity, jnp.einsum("dnd->n", jax.vmap(pull)(basis)[0])


def solved(function, state, weights, start, end):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(function), diffrax.Dopri5(), start, end, None, state, weights,
        stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE), max_steps=256,
    )  # fmt: skip


def nll(weights, x):
    solution = solved(augmented, (x, jnp.zeros(len(x))), weights, 1.0, 0.0)
    z, log_det = (part[-1] for part in solution.ys)
    log_base = -0.5 * (z**2).sum(1) - 0.5 * x.shape[1] * jnp.log(2 * jnp.pi)
    return -(log_base + log_det).mean(), solution.stats["num_steps"]


def train(weights):
    (value, steps), gradient = jax.value_and_grad(nll, has_aux=True)(weights, PROBLEM["x"])
    return value, steps, gradient


def evaluate(weights):
    return nll(weights, PROBLEM["x"])


def sample(weights):
    solution = solved(lambda t, z, weights: field(weights, t, z), PROBLEM["z"], weights, 0.0, 1.0)
    return solution.ys[-1], solution.stats["num_steps"]


TASKS = {"train": train, "evaluate": evaluate, "sample": sample}
compiled = {}
for line in sys.stdin:
    task = line.strip()
    if task not in compiled:
        compiled[task] = jax.jit(TASKS[task]).lower(WEIGHTS).compile()
    begun = time.perf_counter()
    value, steps, *gradient = jax.block_until_ready(compiled[task](WEIGHTS))
    memory = compiled[task].memory_analysis()
    answer = {
        "seconds": time.perf_counter() - begun,
        "evaluations": 1 + 6 * int(steps),
        "megabytes": (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20,
    }
    if task != "sample":
        answer["nll"] = float(value)
    if gradient:
        answer["gradient_norm"] = float(jnp.sqrt(sum((part**2).sum() for part in jax.tree.leaves(gradient))))
    print(json.dumps(answer), flush=True)
