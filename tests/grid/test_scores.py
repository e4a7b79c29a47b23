"""Records as scores, tables, aggregates and pictures, against records made by hand."""

import io
import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from scipy.stats import norm
from scipy.stats import t as student

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.cells import RECORD, RISK, read_record
from cdsa_lightning.grid.scores import aggregates, read_scores, score_table
from cdsa_lightning.grid.tables import latex, markdown, pictures, render, terminal
from cdsa_lightning.metrics.bootstrap import bootstrap_difference
from grid_files import write_record

BASE = [[10.0, 30.0], [20.0, 40.0]]  # seeds of 20 and 30
CDSA = [[40.0, 40.0], [60.0, 60.0]]


@pytest.fixture
def cells(tmp_path):
    return [
        write_record(tmp_path / "1", "hopper-medium", "iql", {"base": BASE, "without_a1": BASE, "cdsa": CDSA}),
        write_record(tmp_path / "2", "hopper-random", "iql", {"base": BASE, "cdsa": BASE}, provenance="d4rl-v2"),
        write_record(tmp_path / "3", "risky-pointmass", "shortest_path", {"base": [[-5.0]]}, "cdsa/Risky-v0", ""),
        write_record(tmp_path / "4", "hopper-medium", "onestep", {"base": BASE}),
    ]


def test_a_score_is_the_mean_over_seeds_beside_the_papers(cells):
    first, without, corrected, *_ = read_scores(cells)
    assert (first.per_seed, first.mean, first.values.tolist()) == ((20.0, 30.0), 25.0, BASE)
    assert first.std == pytest.approx(50**0.5)
    assert (first.paper, first.paper_std, without.paper) == (62.1, None, None)
    assert (corrected.mean, corrected.paper, corrected.paper_std) == (50.0, 65.4, 5.38)


def test_what_the_paper_does_not_have_stays_empty(cells):
    straight, onestep = read_scores(cells[2:])
    assert (straight.paper, straight.std, straight.scaled) == (None, None, False)
    assert onestep.paper == 59.6


def test_the_markdown_table_tells_data_environment_and_both_numbers(cells):
    lines = markdown(read_scores(cells)).splitlines()
    assert lines[0] == (
        "| task | environment | data | baseline | base | without a1 | CDSA | CDSA - base [95 %] | verdict |"
    )
    start = (
        "| hopper-medium | Hopper-v5 | regenerated | iql | 25.0 ± 7.1 (62.1) | 25.0 ± 7.1 | 50.0 ± 14.1 (65.4 ± 5.4) | "
    )
    gap = bootstrap_difference(torch.tensor(CDSA), torch.tensor(BASE))
    assert lines[2] == f"{start}+25.0 [{gap.low:+.1f}, {gap.high:+.1f}] | improved |"
    start = "| hopper-random | Hopper-v5 | d4rl-v2 | iql | 25.0 ± 7.1 (10.8) |  | 25.0 ± 7.1 (30.9 ± 0.2) | +0.0 ["
    assert lines[3].startswith(start)
    assert lines[4] == "| risky-pointmass | cdsa/Risky-v0 | none | shortest_path | -5.0* |  |  |  |  |"


def test_the_latex_table_has_the_same_cells(cells):
    text = latex(read_scores(cells))
    assert r"risky-pointmass & cdsa/Risky-v0 & none & shortest\_path & -5.0* &  &  &  &  \\" in text
    assert r"50.0 $\pm$ 14.1 (65.4 $\pm$ 5.4) & +25.0 [" in text
    assert r"CDSA - base [95 \%] & verdict \\" in text
    assert text.splitlines()[1] == r"\begin{tabular}{llllrrrrr}"
    assert text.count(r"\\") == 5


def shown(cells):
    scores = read_scores(cells)
    return terminal(scores, aggregates(scores))


def test_a_narrow_terminal_hides_no_digit(cells):
    console = Console(width=70, record=True, file=io.StringIO())
    console.print(shown(cells))
    assert "…" not in console.export_text()


def test_the_terminal_shows_the_intervals_of_the_aggregates(cells):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(shown(cells))
    (line,) = (line for line in console.export_text().splitlines() if "iql" in line and "│ CDSA" in line)
    mean = aggregates(read_scores(cells))["iql"]["cdsa"]["mean"]
    assert f"{mean['estimate']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}]" in line
    assert len(shown(cells[2:3]).renderables) == 1  # no task there has a scale


def test_a_difference_is_that_of_the_report(tmp_path):
    better = write_record(tmp_path / "1", "hopper-medium", "iql", {"base": [[1.0, 2.0]], "cdsa": [[8.0, 9.0]]})
    base, corrected = read_scores([better])
    assert base.difference is None
    assert corrected.difference == bootstrap_difference(torch.tensor([[8.0, 9.0]]), torch.tensor([[1.0, 2.0]]))
    assert corrected.difference.low > 0
    single = write_record(tmp_path / "2", "hopper-medium", "iql", {"base": [[1.0]], "cdsa": [[8.0]]})
    assert markdown(read_scores([single])).splitlines()[2].endswith("| +7.0 | no evidence |")


def test_aggregates_are_over_the_tasks_with_a_scale(cells):
    said = aggregates(read_scores(cells))
    iql = said["iql"]["cdsa"]
    assert iql["tasks"] == ["hopper-medium", "hopper-random"]
    assert iql["mean"]["estimate"] == pytest.approx((40 + 60 + 20 + 30) / 4)
    assert iql["interquartile_mean"]["estimate"] == pytest.approx(35)
    assert iql["optimality_gap"]["estimate"] == pytest.approx(62.5)
    plain = (40 + 40 + 20 + 20) / 4  # the lower seeds drawn twice: 1 of 16 resamples
    wider = math.sqrt(2) * student.ppf(0.975, 2) / norm.ppf(0.975)
    assert iql["mean"]["low"] == pytest.approx(37.5 - wider * (37.5 - plain))
    assert iql["probability_of_improvement"]["estimate"] == pytest.approx((1 + 0.5) / 2)
    assert "shortest_path" not in said
    assert "probability_of_improvement" not in said["iql"]["base"]


def test_an_interval_of_one_seed_is_none(tmp_path):
    record = write_record(tmp_path / "1", "hopper-medium", "iql", {"base": [[1.0]]})
    (said,) = aggregates(read_scores([record])).values()
    assert said["base"]["mean"] == {"estimate": 1.0, "low": None, "high": None}


def test_tasks_of_fewer_seeds_are_left_out_of_a_table(tmp_path, cells):
    fewer = write_record(tmp_path / "5", "walker2d-medium", "iql", {"base": [[1.0]]})
    tasks, table = score_table(read_scores([*cells, fewer]), "iql", "base")
    assert tasks == ["hopper-medium", "hopper-random"]
    assert table.tolist() == [[20, 30], [20, 30]]


def test_everything_is_written(tmp_path, cells):
    root = tmp_path / "out"
    root.mkdir()
    scores = read_scores(cells)
    files = render(scores, aggregates(scores), root)
    drawn = {"profile", "ablation-hopper-medium-iql", "var-hopper-medium-iql", "var-hopper-medium-onestep"}
    drawn |= {"var-hopper-random-iql", "var-risky-pointmass-shortest_path"}
    pictured = {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert {path.name for path in files} == {"table.md", "table.tex", "table.parquet", "aggregates.json"} | pictured
    assert all(path.stat().st_size for path in files)
    table = pq.read_table(root / "table.parquet").to_pydict()
    assert table["mean"][:3] == [25, 25, 50]
    assert table["provenance"][-2:] == ["", "regenerated"]
    assert (table["difference"][:3], table["verdict"][:3]) == ([None, 0, 25], [None, "no evidence", "improved"])
    assert json.loads((root / "aggregates.json").read_text()) == aggregates(read_scores(cells))


def test_a_profile_is_drawn_of_all_cells(cells):
    drawn = pictures(read_scores(cells))
    (axes,) = drawn["profile"].axes
    assert [line.get_label() for line in axes.lines] == ["iql", "cdsa(iql)", "onestep"]
    x, y = axes.lines[0].get_data()
    assert [float(y[x < 19.9].min()), float(y[x > 30.1].max())] == [1, 0]
    assert "profile" not in pictures(read_scores(cells[2:3]))


def test_a_cell_is_drawn_as_its_report_would_be(tmp_path):
    """The curve of its arms alone and whole, the means of all, and the share of episodes at risk where there is any."""
    arms, steps = {"base": BASE, "without_a2": BASE, "cdsa": CDSA}, {"base": [[0, 3], [1, 0]]}
    steps |= {"without_a2": [[0, 0], [0, 2]], "cdsa": [[0, 0], [0, 0]]}
    scores = read_scores([write_record(tmp_path / "1", "risky-pointmass", "bc", arms, risk=steps)])
    drawn = pictures(scores)
    (axes,) = drawn["var-risky-pointmass-bc"].axes
    assert [line.get_label() for line in axes.lines] == ["bc", "cdsa(bc)"]
    assert axes.lines[0].get_ydata()[[0, -1]].tolist() == [10, 40] and axes.get_ylabel() == "return"
    means, shares = drawn["ablation-risky-pointmass-bc"].axes
    assert [label.get_text() for label in means.get_yticklabels()] == ["bc", "without a2", "cdsa"]
    assert [bar[0].get_xdata()[0] for bar in means.containers] == [25, 25, 50]
    assert [bar[0].get_xdata()[0] for bar in shares.containers] == [0.5, 0.25, 0]


def test_a_record_of_an_earlier_version_has_no_steps_at_risk(tmp_path):
    cell = write_record(tmp_path / "1", "risky-pointmass", "bc", {"base": BASE, "without_a2": BASE, "cdsa": CDSA})
    path = cell / RECORD
    pq.write_table(pq.read_table(path).drop_columns([RISK]), path)
    assert read_record(path)[RISK].null_count == 12
    assert len(pictures(read_scores([cell]))["ablation-risky-pointmass-bc"].axes) == 1


@pytest.mark.parametrize("damage", ["missing", "cut", "columns"])
def test_a_damaged_record_is_told(cells, damage):
    path = cells[0] / RECORD
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        pq.write_table(pq.read_table(path).drop_columns(["seed"]), path)
    with pytest.raises(InputError, match="lacks seed" if damage == "columns" else "Cannot read the record"):
        read_record(path)
