# %% [markdown]
# # A table with empty cells
#
# A shop keeps a table of its orders: the city, the day's wind, the amount, the number of things. Some cells are empty.
# One flow learns the density of all columns, and of any columns given any others: it draws new rows, fills empty cells,
# predicts a column, and says which rows are unusual.

# %%
import os
from pathlib import Path

import numpy as np
import polars as pl

import cnf

QUICK = "CNF_QUICK" in os.environ
folder = Path("runs/a_table_with_empty_cells")
folder.mkdir(parents=True, exist_ok=True)
random = np.random.default_rng(0)

# %% [markdown]
# ## The table
#
# Made up, so that the truth is known: orders from Lyon are larger, wind from the north brings more of them, and three
# in ten orders are of nothing but a free sample, whose amount is 0.

# %%
n = 300 if QUICK else 2_000
city = random.choice(["Lyon", "Brest", "Nice"], n, p=[0.5, 0.3, 0.2])
wind = random.vonmises(0.0, 1.0, n) / np.pi * 180 % 360
things = 1 + random.poisson(2 + 2 * (np.cos(np.radians(wind)) > 0))
amount = np.where(random.random(n) < 0.3, 0.0, things * np.exp(random.normal(1 + (city == "Lyon"), 0.3)))
complete = pl.DataFrame({"city": city, "wind": wind.round(), "things": things, "amount": amount.round(2)})
gone = random.random((n, 4)) < 0.1
orders = complete.with_columns(
    pl.when(pl.Series(gone[:, place])).then(None).otherwise(pl.col(name)).alias(name)
    for place, name in enumerate(complete.columns)
).filter(~gone.all(1))
print(orders.head())

# %% [markdown]
# ## Training
#
# The kinds of columns are seen by their cells; what is not to be seen is declared, here that the wind is an angle.
# Nothing is filled in: an empty cell is integrated out.

# %%
model = cnf.TableFlow(kinds={"wind": "angle:360"}, steps=20 if QUICK else 600)
model.fit(orders)
print(model.schema)
print("log-probabilities are", model.likelihood)

# %% [markdown]
# ## New rows, with conditions or without
#
# They have the types and levels of the table, and amounts of exactly 0.

# %%
print(model.sample(3))
lyon = model.sample(500, given={"city": "Lyon"})
nice = model.sample(500, given={"city": "Nice"})
print(f"mean amount in Lyon {lyon['amount'].mean():.1f}, in Nice {nice['amount'].mean():.1f}")
print(f"amounts of 0: {(lyon['amount'] == 0).mean():.2f}, truth 0.30")

# %% [markdown]
# ## Empty cells
#
# Each is drawn from its distribution given the others of its row; several draws show how sure that is.

# %%
draws = model.impute(orders, draws=5)
row = int(np.flatnonzero(orders["amount"].is_null())[0])
print("row", row, orders.row(row), "→ amounts", [draw["amount"][row] for draw in draws])

# %% [markdown]
# ## Predictions of one column

# %%
some = orders.filter(pl.col("things").is_not_null())[:100]
prediction = model.predict(some, "things")
print("mean of the first rows", prediction.mean[:3].round(1), "truth", some["things"][:3].to_list())
print(f"the 90 % interval holds {prediction.coverage(0.9):.2f} of the values")

# %% [markdown]
# ## Unusual rows
#
# A conformal p-value is uniform for rows like those of the table. An order of one thing for 500 is not, and the column
# that says so has the largest share.

# %%
strange = pl.DataFrame({"city": ["Nice"], "wind": [180.0], "things": [1], "amount": [500.0]})
print(f"p-value {model.p_values(strange)[0]:.3f}")
print({name: round(float(value[0]), 1) for name, value in model.contributions(strange).items()})

# %% [markdown]
# ## Keep it
#
# The command line does the same with files: `cnf fit orders.csv --out runs/orders` leaves a model and a report page.

# %%
print(model.save(folder / "model"))
again = cnf.TableFlow.load(folder / "model")
print("the same after loading:", np.array_equal(again.log_prob(strange), model.log_prob(strange)))
