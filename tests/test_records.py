"""A report that is written and read back is the same report; a damaged one is refused by the name of its file."""

import dataclasses
import json

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.records import load, load_about, save
from drawn import episodes, report, trace


def assert_equal(one, two):
    """Two reports hold the same, bit for bit."""
    assert (one.task, one.seed, one.env_kwargs, list(one.arms)) == (two.task, two.seed, two.env_kwargs, list(two.arms))
    for name in one.arms:
        mine, other = one.arms[name], two.arms[name]
        for key, array in {**vars(mine), **mine.info}.items():
            if isinstance(array, np.ndarray):
                back = other.info[key] if key in mine.info else getattr(other, key)
                np.testing.assert_array_equal(array, back)
                assert array.dtype == back.dtype, (name, key)
        assert set(mine.info) == set(other.info)
        assert len(mine.traces) == len(other.traces)
        for first, second in zip(mine.traces, other.traces, strict=True):
            assert (first.seed, first.episode) == (second.seed, second.episode)
            for key in ("obs", "action", "base_action", "reward"):
                np.testing.assert_array_equal(getattr(first, key), getattr(second, key))
                assert getattr(first, key).dtype == getattr(second, key).dtype
    assert one.to_json() == two.to_json()


def forget(folder):
    """The report as earlier versions wrote it: without digests, so that what is changed reaches the other checks."""
    said = json.loads((folder / "report.json").read_text())
    del said["digest"], said["files"]
    (folder / "report.json").write_text(json.dumps(said))


@pytest.fixture
def kept(tmp_path):
    original = report(in_risk_region=np.arange(8.0).reshape(2, 4))
    original.arms["cdsa(iql)"].traces.append(trace([0.3, 0.9], steps=5, seed=1))
    save(original, tmp_path)
    return original


def test_what_is_read_back_is_what_was_written(kept, tmp_path):
    assert_equal(kept, load(tmp_path))


def test_seed_settings_and_arms_of_different_size_survive(tmp_path):
    plain = report()
    arms = {**plain.arms, "random": episodes([[1.5, -2.25, 3.0]], success=np.array([[1.0, np.nan, 0.0]]))}
    original = Report(plain.task, arms, seed=7, env_kwargs={"start": "corner"})
    save(original, tmp_path)
    assert_equal(original, load(tmp_path))


def test_a_report_without_traces_survives(tmp_path):
    original = report(traces=False)
    save(original, tmp_path)
    assert_equal(original, load(tmp_path))


def test_traces_hold_no_objects(kept, tmp_path):
    with np.load(tmp_path / "traces.npz", allow_pickle=False) as file:
        assert {file[name].dtype.kind for name in file.files} <= set("fi")


def test_what_made_it_is_read_back(tmp_path):
    save(report(), tmp_path, {"corrector": "c.safetensors", "options": {"baseline": "iql"}})
    about = load_about(tmp_path)
    assert about == {"task": "risky-pointmass", "corrector": "c.safetensors", "options": {"baseline": "iql"}}


@pytest.mark.parametrize("name", ["report.json", "episodes.parquet", "traces.npz"])
def test_a_missing_file_is_named(kept, tmp_path, name):
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"There is no .*{name}: a report is what 'cdsa evaluate' writes"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "episodes.parquet", "traces.npz"])
@pytest.mark.parametrize("keep", [0, 10, -30])
def test_a_cut_file_is_named(kept, tmp_path, name, keep):
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:keep])
    with pytest.raises(InputError, match=f"{name} is damaged"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "episodes.parquet", "traces.npz"])
def test_a_folder_in_place_of_a_file_is_named(kept, tmp_path, name):
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=name):
        load(tmp_path)


def test_pickles_are_not_opened(kept, tmp_path):
    np.savez(tmp_path / "traces.npz", **{"0/lengths": np.array([{}], dtype=object)})
    with pytest.raises(InputError, match=r"traces.npz is damaged"):
        load(tmp_path)


def test_files_of_two_reports_are_refused(kept, tmp_path):
    forget(tmp_path)
    for index, name in enumerate(("report.json", "episodes.parquet", "traces.npz")):
        other = tmp_path / f"other{index}"
        shifted = {n: dataclasses.replace(e, returns=e.returns + 1) for n, e in kept.arms.items()}
        paths = save(Report(kept.task, {**shifted, "third": shifted["iql"]}), other)
        forget(other)
        for path in paths:
            if path.name != name:
                path.write_bytes((tmp_path / path.name).read_bytes())
    for index in (0, 1):
        with pytest.raises(InputError, match="is no whole report: .*evaluate again"):
            load(tmp_path / f"other{index}")


def test_traces_that_are_not_as_long_as_they_say_are_refused(kept, tmp_path):
    forget(tmp_path)
    with np.load(tmp_path / "traces.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for broken in ({"0/reward": arrays["0/reward"][:-1]}, {"0/lengths": arrays["0/lengths"] + 1}):
        np.savez(tmp_path / "traces.npz", **{**arrays, **broken})
        with pytest.raises(InputError, match=r"traces.npz have other lengths than they say"):
            load(tmp_path)
    del arrays["1/obs"]
    np.savez(tmp_path / "traces.npz", **arrays)
    with pytest.raises(InputError, match="there is no '1/obs'"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["episodes.parquet", "traces.npz"])
def test_a_file_that_is_not_the_one_of_the_report_is_named(kept, tmp_path, name):
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is damaged: report.json was written with another one"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"arms": []}', '{"arms": {}, "task": "risky-pointmass"}'])
def test_other_json_is_refused(kept, tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError):
        load(tmp_path)


def test_an_unknown_task_is_refused_by_name(kept, tmp_path):
    said = json.loads((tmp_path / "report.json").read_text())
    del said["digest"]  # what is changed on purpose is no damage
    (tmp_path / "report.json").write_text(json.dumps({**said, "task": "hopper-mediu"}))
    with pytest.raises(InputError, match="Did you mean 'hopper-medium'"):
        load(tmp_path)
