"""The curves of a fit, read back from what `cdsa fit` logged."""

import csv
import math

import pytest

from cdsa_lightning.cli import main
from cdsa_lightning.dashboard.fits import POINTS, read_fit
from cdsa_lightning.errors import InputError
from training_data import write_npz


def write(directory, text, part=""):
    (directory / part).mkdir(parents=True, exist_ok=True)
    (directory / part / "metrics.csv").write_text(text)
    return directory


@pytest.fixture
def run(tmp_path):
    return tmp_path / "hopper-medium" / "iql" / "1"


def fit(folder, seeds):
    """The run directory of a short fit, and the rows of its metrics.csv."""
    source = f"npz:{write_npz(folder / 'data.npz', rows=400)}"
    words = [
        "--data.task",
        "risky-pointmass",
        "--data.source",
        source,
        "--model.seeds",
        seeds,
        "--runs",
        f"runs{seeds}",
    ]
    short = ["--trainer.max_steps", "40", "--trainer.log_every_n_steps", "20", "--wandb", "off"]
    assert main(["fit", *words, *short]) == 0
    (path,) = (folder / f"runs{seeds}").glob("*/*/*/metrics.csv")
    return path.parent, list(csv.DictReader(path.open()))


def test_a_fit_logs_the_loss_of_every_seed_and_their_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory, rows = fit(tmp_path, "[3,7]")
    _, alone = fit(tmp_path, "[7]")
    assert [row["step"] for row in rows] == ["20", "40"]
    for loss in ("action_score_loss", "state_score_loss", "inverse_dynamics_loss"):
        for row, solo in zip(rows, alone, strict=True):
            each = [float(row[f"train/{loss}/seed_{seed}"]) for seed in (3, 7)]
            assert float(row[f"train/{loss}"]) == pytest.approx(sum(each) / 2, rel=1e-5)
            assert each[1] == pytest.approx(float(solo[f"train/{loss}"]), rel=1e-4)
            assert each[0] != pytest.approx(each[1], rel=1e-3)
    curve = read_fit(directory).curves["action_score_loss"]
    assert curve.steps == [20, 40] and list(curve.lines) == ["mean", "3", "7"]
    assert curve.lines["7"][1] == pytest.approx(float(rows[1]["train/action_score_loss/seed_7"]), rel=1e-4)
    assert (read_fit(directory).task, read_fit(directory).name) == ("risky-pointmass", "cdsa")


def test_a_long_curve_is_thinned_to_means_of_neighbours(run):
    lines = [f"{step},{step}" for step in range(1, 1001)]
    curve = read_fit(write(run, "\n".join(["step,train/loss", *lines]) + "\n")).curves["loss"]
    size = math.ceil(1000 / POINTS)
    assert len(curve.steps) <= POINTS and curve.steps[0] == size and curve.steps[-1] == 1000
    assert curve.lines["mean"][0] == pytest.approx(sum(range(1, size + 1)) / size)


def test_a_resumed_run_replaces_what_it_repeats(run):
    write(run, "step,train/loss\n100,1\n200,2\n300,3\n")
    write(run, "step,train/loss\n200,20\n300,30\n", "resumed-1")
    write(run, "step,train/loss\n400,40\n", "resumed-10")
    write(run, "step,train/loss\n300,31\n", "resumed-2")
    curve = read_fit(run).curves["loss"]
    assert curve.steps == [100, 200, 300, 400] and curve.lines["mean"] == [1, 20, 31, 40]


def test_rows_of_evaluations_during_a_fit_and_half_a_line_are_no_losses(run):
    write(run, "eval/iql/return,step,train/loss\n,100,1.5\n7.0,100,\n,200,nan\n,30")
    curve = read_fit(run).curves["loss"]
    assert curve.steps == [100, 200] and curve.lines["mean"] == [1.5, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,train/loss\n1,what\n", "'what' in train/loss is no number"),
        ("step,train/loss\nx,1\n", "'x' is no step"),
        ("a,b\n1,2\n", "no column 'step'"),
    ],
)
def test_a_damaged_file_is_named(run, text, said):
    with pytest.raises(InputError, match=said) as caught:
        read_fit(write(run, text))
    assert str(run) in str(caught.value)


def test_a_file_that_is_no_text_is_named(run):
    run.mkdir(parents=True)
    (run / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"Cannot read .*metrics\.csv"):
        read_fit(run)
