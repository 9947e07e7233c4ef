"""The report page: whole without a network, readable in words, right in its numbers; and seen in a browser."""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import cnf
from cnf.data import open_source
from cnf.plotting import flow_report, table_report
from cnf.plotting.report.columns import Pair, chart_of
from cnf.plotting.report.marginals import independent_log_prob
from cnf.plotting.report.markup import element
from cnf.plotting.report.numbers import number, share, with_error
from cnf.plotting.report.page import Section, tiles, write_page
from cnf.tables import Column, Schema

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ODD = "a <b> & \"c\" 'd' $x_1$"  # a name that HTML and formulas would take for their own


def tree_of(path: Path) -> ElementTree.Element:
    """The page as XML, which has to be well-formed."""
    return ElementTree.fromstring(path.read_text().removeprefix("<!DOCTYPE html>"))


def text_of(node: ElementTree.Element) -> str:
    return " ".join(" ".join(node.itertext()).split())


def section(page: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(node for node in page.iter("section") if node.get("id") == name)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four columns, of which the last depends on the others, and one row that breaks this."""
    path = tmp_path_factory.mktemp("data") / "plant.csv"
    x = np.random.default_rng(0).normal(size=(400, 4)) * [1, 100, 1e-4, 1]
    x[:, 3] = x[:, 0] + 0.05 * x[:, 3]
    pl.DataFrame(x, schema=["load", ODD, "leak", "power"]).write_csv(path)
    return path


@pytest.fixture(scope="module")
def page(table: Path) -> Path:
    source = open_source(str(table))
    torch.manual_seed(0)
    flow = cnf.build("maf", 4, hidden=16)
    config = cnf.FitConfig(steps=60, progress=False, patience=None)
    result = cnf.fit(flow, source.train, validation=source.validation, config=config)
    cnf.save(flow, table.parent / "run")
    numbers = {
        "test_nll": 1.5,
        "test_nll_standard_error": 0.25,
        "likelihood": "exact",
        "training_seconds": 3,
        "steps": 60,
    }
    out = table.parent / "run" / "report.html"
    return flow_report(flow, source, out, history=result.history, numbers=numbers)


def test_page_is_whole_without_a_network(page: Path) -> None:
    text = page.read_text()
    addresses = re.findall(r"""(?:src|href|srcset|url\(|@import)\s*=?\s*["'(]?([^"')\s>]+)""", text)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "http" not in text
    assert "could not be made" not in text
    assert len(text) < 400_000


def test_every_picture_has_words(page: Path) -> None:
    for node in tree_of(page).iter():
        if node.tag == "img":
            assert len(node.get("alt", "")) > 20
        if node.tag == "svg":
            assert node.get("role") == "img"
            assert len(node.get("aria-label", "")) > 10


def test_sections_are_linked_in_their_order(page: Path) -> None:
    tree = tree_of(page)
    links = [node.get("href") for node in tree.iter("a")]
    names = [node.get("id") for node in tree.iter("section")]
    assert links == [f"#{name}" for name in names]
    assert names == ["data", "likelihood", "training", "columns", "pairs", "calibration", "unusual-rows", "use"]


def test_names_of_columns_are_escaped(page: Path) -> None:
    assert ODD in text_of(section(tree_of(page), "data"))
    assert "<b> &amp;" not in page.read_text()


def test_simple_densities_are_ranked_on_the_same_rows(page: Path) -> None:
    rows = [[text_of(cell) for cell in row] for row in section(tree_of(page), "likelihood").iter("tr")][1:]
    values = [float(row[1].split(" ")[0].replace("−", "-")) for row in rows]
    assert values == sorted(values)
    names = [row[0] for row in rows]
    assert {name.split(" ")[0] for name in names} == {"this", "independent", "Gaussian", "kernel"}
    gaussian = next(value for value, name in zip(values, names, strict=True) if name.startswith("Gaussian mean"))
    truth = 2 * math.log(2 * math.pi * math.e) + math.log(100 * 1e-4 * 0.05)
    assert gaussian == pytest.approx(truth, abs=0.5)


def test_all_columns_have_a_chart_and_a_calibration(page: Path) -> None:
    for name in ("columns", "calibration"):
        captions = [text_of(node) for node in section(tree_of(page), name).iter("figcaption")]
        assert [caption.split(" 90 %")[0] for caption in captions] == ["load", ODD, "leak", "power"]


def test_the_most_unusual_row_and_its_column_are_named(tmp_path: Path) -> None:
    """A row whose cells are usual one by one, and not together."""
    x = np.random.default_rng(1).normal(size=(500, 3))
    x[:, 2] = x[:, 0] + 0.1 * x[:, 2]
    numbers = open_source_of(x, tmp_path).test.read(range(50))[2]
    x[numbers[7], 2] = -x[numbers[7], 0] + 2.0
    source = open_source_of(x, tmp_path)
    joint = torch.distributions.MultivariateNormal(torch.zeros(3), torch.from_numpy(np.cov(x.T)).float())
    tree = tree_of(flow_report(cnf.Flow(cnf.Compose([]), joint), source, tmp_path / "report.html"))
    first = [text_of(cell) for cell in list(section(tree, "unusual-rows").iter("tr"))[1]]
    assert first[0] == str(int(numbers[7]))
    assert first[3].split(" = ")[0] in ("a", "c")
    assert float(first[2]) < 0.05


def open_source_of(x: np.ndarray, folder: Path) -> object:
    pl.DataFrame(x, schema=["a", "b", "c"]).write_csv(folder / "x.csv")
    return open_source(str(folder / "x.csv"))


def test_code_on_the_page_works(page: Path) -> None:
    code = next(text for node in tree_of(page).iter("code") if "import cnf" in (text := "".join(node.itertext())))
    session: dict[str, object] = {}
    exec(code, session)
    assert session["log_prob"].shape == (1000,)  # type: ignore[attr-defined]


def test_conditional_flows_are_compared_given_their_context(table: Path, tmp_path: Path) -> None:
    source = open_source(str(table), context=["load"])
    flow = cnf.build("maf", 3, context_dim=1, hidden=8)
    flow.initialize(*source.train.read(range(300))[:2])
    cnf.save(flow, tmp_path)
    path = flow_report(flow, source, tmp_path / "report.html")
    tree = tree_of(path)
    assert "could not be made" not in path.read_text()
    assert "a condition of the model" in text_of(section(tree, "data"))
    assert [text_of(node) for node in section(tree, "columns").iter("figcaption")] == [ODD, "leak", "power"]
    exec(next(text for node in tree.iter("code") if "import cnf" in (text := "".join(node.itertext()))), {})


def test_mixed_tables_have_the_same_page(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    size = generator.normal(size=200)
    frame = pl.DataFrame(
        {
            "size": pl.Series(size).set(pl.Series(np.arange(200) % 11 == 0), None),
            "kind": np.where(size > 0, "<large>", "small"),
            "legs": generator.integers(0, 5, 200),
            "pay": np.exp(size + generator.normal(size=200)),
        }
    )
    model = cnf.TableFlow(steps=2).fit(frame[:160])
    model.save(tmp_path)
    path = table_report(model, frame[:160], frame[160:], tmp_path / "report.html")
    tree = tree_of(path)
    assert "could not be made" not in path.read_text()
    names = [node.get("id") for node in tree.iter("section")]
    assert names == ["data", "likelihood", "training", "columns", "pairs", "calibration", "unusual-rows", "use"]
    assert "a lower bound" in text_of(section(tree, "likelihood"))
    assert "<large>" in text_of(section(tree, "columns"))
    assert len(list(section(tree, "unusual-rows").iter("details"))) == 1
    exec(next(text for node in tree.iter("code") if "import cnf" in (text := "".join(node.itertext()))), {})


def test_independent_columns_of_a_mixed_table_are_a_density() -> None:
    """Numbers integrate and levels sum to one, values of their own among them."""
    generator = np.random.default_rng(0)
    pay = np.where(generator.random(400) < 0.3, 0.0, generator.normal(5, 1, 400))
    schema = Schema((Column("pay", "real", atoms=(0.0,)), Column("legs", "integer")))
    train = np.stack([pay, generator.integers(0, 3, 400)], 1)
    line = np.linspace(-5, 15, 2001) + 1e-3

    def of(values: np.ndarray, legs: float) -> np.ndarray:
        rows = np.stack([values, np.full(len(values), legs)], 1)
        return np.exp(independent_log_prob(schema, train[:300], train[300:], rows))

    parts = [
        torch.trapezoid(torch.from_numpy(of(line, legs)), torch.from_numpy(line)).item()
        for legs in (0.0, 1.0, 2.0, 9.0)
    ]
    total = sum(parts) + sum(of(np.zeros(1), legs)[0] for legs in (0.0, 1.0, 2.0, 9.0))
    assert total == pytest.approx(1.0, abs=0.02)
    assert of(np.array([math.nan]), 1.0)[0] == pytest.approx(1 / 3, abs=0.1)


def test_images_and_toys_have_pages_of_their_own(tmp_path: Path) -> None:
    digits = open_source("digits")
    glow = cnf.build("glow", digits.event_shape, hidden=4, levels=digits.levels)
    glow.initialize(digits.train.read(range(100))[0])
    names = [node.get("id") for node in tree_of(flow_report(glow, digits, tmp_path / "a.html")).iter("section")]
    assert names == ["samples", "use"]
    toy = flow_report(cnf.build("realnvp", 2, hidden=4), open_source("moons"), tmp_path / "b.html")
    assert [node.get("id") for node in tree_of(toy).iter("section")] == ["density", "likelihood", "use"]
    pictures = [node.get("alt") for node in tree_of(toy).iter("img")]
    assert pictures[0].startswith("4000 held-out points, exact density, learned density and samples of the model")


def test_a_part_that_fails_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    def fails() -> None:
        raise ValueError("no <luck>")

    made = [Section("One", fails), Section("Two", lambda: element("p", "fine")), Section("Three", lambda: None)]
    tree = tree_of(write_page(tmp_path / "page.html", "t", "l", tiles([("a", "1", "")]), made))
    assert [text_of(node) for node in tree.iter("section")] == [
        "One This part could not be made: no <luck>",
        "Two fine",
    ]


@pytest.mark.parametrize(
    ("column", "data", "words"),
    [
        (Column("x", "real"), [0.0, 1.0, 2.0], "Histogram of x. data: middle half from 0.5 to 1.5, median 1"),
        (Column("n", "integer"), [0.0, 1.0, 1.0], "median 1"),
        (Column("d", "date"), [0.0, 10.0, 20.0], "median 1970-01-11"),
        (Column("w", "angle", period=360.0), [0.0, 180.0, 359.0], "median 180"),
        (Column("s", "binary", levels=("f", "m")), [0.0, 1.0, math.nan, 1.0], "f 33 % of the data, 33 % of samples"),
        (Column("c", "category", levels=tuple("abcdefghijkl")), [*range(12), 3.0], "5 others"),
    ],
)
def test_every_kind_of_column_has_a_chart(column: Column, data: list[float], words: str) -> None:
    values = np.array(data, dtype=float)
    chart = ElementTree.fromstring(chart_of(Pair(column, values, values)))
    assert words in chart.get("aria-label", "")
    assert "nan" not in ElementTree.tostring(chart, "unicode")


def test_numbers_are_short() -> None:
    assert [number(value) for value in (0.0, 1234567.0, 1e-9, -12.5, 17114.0, math.inf)] == [
        "0", "1.235e6", "1e-9".replace("-", "−"), "−12.5", "17114", "∞",
    ]  # fmt: skip
    assert with_error(1234.5678, 12.0) == "1235 ± 12"
    assert [share(value) for value in (0.0, 1e-5, 0.0123, 0.5)] == ["0.0 %", "< 0.1 %", "1.2 %", "50 %"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_page_in_a_browser(page: Path, tmp_path: Path, width: int) -> None:
    """Nothing is wider than the screen, and the menus of pairs draw."""
    probe = tmp_path / "probe.html"
    script = (
        "<script>document.querySelectorAll('details').forEach(d => d.open = true);"
        "document.title = JSON.stringify([document.documentElement.scrollWidth, innerWidth, "
        "document.querySelector('.choice path.dots').getAttribute('d').length])</script>"
    )
    probe.write_text(page.read_text().replace("</html>", f"{script}</html>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    shot = tmp_path / "page.png"
    command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1000"]
    dumped = subprocess.run([*command, "--dump-dom", probe.as_uri()], capture_output=True, text=True, timeout=500)
    found = re.search(r"<title>\[(\d+),(\d+),(\d+)\]</title>", dumped.stdout)
    assert found, dumped.stderr[-2000:]
    scroll, inner, drawn = map(int, found.groups())
    assert scroll <= inner  # a headless window has a smallest width of its own
    assert drawn > 1000
    subprocess.run([*command, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=500, check=True)
    colours = np.unique(np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("L")))
    assert len(colours) > 50
