"""Baselines by name: what the registry finds, checks and says."""

import re
import sys
import textwrap

import pytest

from cdsa_lightning.core.policy import NormalizedPolicy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.registry import inspect_checkpoint, load_policy, names
from cdsa_lightning.tasks import get_task


@pytest.fixture(scope="module")
def task():
    return get_task("risky-pointmass")


@pytest.fixture
def announce(tmp_path, monkeypatch):
    """A function that puts a distribution with one entry point and one module on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def announce(name, target, source="", dist="stranger"):
        module = target.partition(":")[0]
        if source:
            (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{dist}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[cdsa.baselines]\n{name} = {target}\n")

    yield announce
    for module in set(sys.modules) - before:
        if module.startswith("stranger_"):
            del sys.modules[module]


GOOD = """
    import torch
    from cdsa_lightning.core.policy import NormalizedPolicy
    def load(checkpoint, task):
        net = torch.nn.Linear(task.obs_dim, task.action_dim)
        return NormalizedPolicy(net, task.low, task.high, 0.0, 1.0).train()
"""


def returning(expression):
    return f"""
    import torch
    from cdsa_lightning.core.policy import FunctionPolicy, NormalizedPolicy, Policy
    def load(checkpoint, task):
        return {expression}
    """


def test_an_announced_baseline_is_named_and_loaded(announce, task):
    announce("new", "stranger_good:load", GOOD)
    assert "new" in names()
    assert names() == sorted(names())
    policy = load_policy("new", None, task)
    assert isinstance(policy, NormalizedPolicy)
    assert not policy.training
    assert not any(parameter.requires_grad for parameter in policy.parameters())


def test_the_loader_gets_the_path_and_the_task(announce, task, tmp_path):
    (tmp_path / "a.pt").touch()
    announce(
        "new",
        "stranger_args:load",
        """
        from cdsa_lightning.core.policy import FunctionPolicy
        def load(checkpoint, task):
            policy = FunctionPolicy(lambda obs: obs[:, :2], task.low, task.high)
            policy.given = (checkpoint, task)
            return policy
        """,
    )
    assert load_policy("new", str(tmp_path / "a.pt"), task).given == (tmp_path / "a.pt", task)


def test_an_unknown_baseline_is_answered_with_the_nearest_one(announce, task):
    announce("gradient", "stranger_good:load", GOOD)
    with pytest.raises(InputError, match=r"Unknown baseline 'gardient'. Did you mean 'gradient'\? Known: .*gradient"):
        load_policy("gardient", None, task)


def test_two_packages_that_claim_one_name_are_both_named(announce, task):
    announce("new", "stranger_good:load", GOOD, dist="first")
    announce("new", "stranger_other:load", GOOD, dist="second")
    with pytest.raises(InputError, match="several packages: distribution 'first'.*distribution 'second'"):
        load_policy("new", None, task)


def test_one_package_seen_twice_is_no_conflict(announce, task):
    announce("new", "stranger_good:load", GOOD, dist="first")
    announce("new", "stranger_good:load", GOOD, dist="second")
    assert names().count("new") == 1
    load_policy("new", None, task)


def test_a_missing_optional_package_is_named_with_its_install_command(announce, task):
    announce("new", "stranger_needs:load", "import absent_package.part\ndef load(checkpoint, task): ...")
    with pytest.raises(InputError, match="'absent_package', which is not installed. .*pip install absent_package$"):
        load_policy("new", None, task)


def test_an_extra_of_the_entry_point_is_the_install_command(announce, task):
    announce("new", "stranger_needs:load [big]", "import absent_package\ndef load(checkpoint, task): ...")
    with pytest.raises(InputError, match=r"pip install 'stranger\[big\]'$"):
        load_policy("new", None, task)


@pytest.mark.parametrize(
    ("target", "source", "text"),
    [
        ("stranger_gone:load", "", "No module named 'stranger_gone'"),
        ("stranger_gone.inner:load", "", "No module named 'stranger_gone'"),
        ("stranger_empty:load", "x = 1", "has no attribute 'load'"),
        ("stranger_broken:load", "def load(:", "SyntaxError"),
        ("stranger_raises:load", "raise OSError('no device')", "OSError: no device"),
        ("stranger_value:load", "load = 3", "is a int, not a function"),
        ("stranger_old:load", "from torch import no_such_thing", "ImportError"),
    ],
)
def test_a_broken_baseline_names_its_distribution(announce, task, target, source, text):
    announce("new", target, source)
    with pytest.raises(InputError, match="distribution 'stranger'") as caught:
        load_policy("new", None, task)
    assert text in str(caught.value)


def test_a_loader_that_fails_is_told_with_its_file(announce, task, tmp_path):
    (tmp_path / "bad.pt").touch()
    announce("new", "stranger_fails:load", "def load(checkpoint, task): return {}['weights']")
    with pytest.raises(InputError, match=r"distribution 'stranger'.* could not load .*bad.pt: KeyError: 'weights'"):
        load_policy("new", tmp_path / "bad.pt", task)


def test_the_text_of_a_loader_is_not_wrapped(announce, task):
    source = "from cdsa_lightning.errors import InputError\ndef load(checkpoint, task): raise InputError('mine')"
    announce("new", "stranger_says:load", source)
    with pytest.raises(InputError, match="^mine$"):
        load_policy("new", None, task)


def test_a_missing_checkpoint_is_answered_with_the_files_near_it(announce, task, tmp_path):
    announce("new", "stranger_good:load", GOOD)
    for name in ("last.ckpt", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"no checkpoint 'lst.ckpt' in .*Near it: last.ckpt"):
        load_policy("new", tmp_path / "lst.ckpt", task)
    with pytest.raises(InputError, match="the folder ends at") as caught:
        load_policy("new", tmp_path / "runs" / "x" / "last.ckpt", task)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("torch.nn.Identity()", "returned a Identity, not a cdsa_lightning.Policy"),
        ("None", "returned a NoneType"),
        ("FunctionPolicy(lambda obs: obs, [-1.0] * 4, [1.0] * 4)", "made for A=4 action entries, the task has 2"),
        (
            "NormalizedPolicy(torch.nn.Linear(17, 2), task.low, task.high, [0.0] * 17, [1.0] * 17)",
            "made for S=17 observation entries, the task has 4",
        ),
        ("NormalizedPolicy(torch.nn.Linear(9, 2), task.low, task.high, 0.0, 1.0)", "cannot act on S=4 .*1x4 and 9x2"),
        ("FunctionPolicy(lambda obs: obs[:, :1], task.low, task.high)", r"returned shape \(1, 1\)"),
        ("FunctionPolicy(lambda obs: obs[:, :2] / 0, task.low, task.high)", "not finite"),
    ],
)
def test_a_policy_that_does_not_fit_the_task_is_refused(announce, task, expression, text):
    announce("new", "stranger_misfit:load", returning(expression))
    with pytest.raises(InputError, match=text):
        load_policy("new", None, task)


def test_a_policy_of_several_seeds_is_checked_with_its_seed_axis(announce, task):
    announce(
        "new",
        "stranger_seeds:load",
        """
        from cdsa_lightning.core.policy import Policy
        class Seeds(Policy):
            num_seeds = 3
            def forward(self, obs):
                assert obs.shape == (3, 1, 4)
                return obs[..., :2]
        def load(checkpoint, task):
            return Seeds(task.low, task.high)
        """,
    )
    assert load_policy("new", None, task).num_seeds == 3


INSPECTING = """
    import {imported}
    from cdsa_lightning.errors import InputError
    from cdsa_lightning.inspection import Inspection
    def {load}(checkpoint, task):
        '''A file of mine.

        More.'''
    def {inspect}(path):
        {body}
"""


def inspecting(body, load="load", inspect="inspect", imported="sys"):
    return INSPECTING.format(body=body, load=load, inspect=inspect, imported=imported)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.mine"
    path.write_text("mine")
    return path


def test_the_baseline_that_knows_a_file_tells_what_it_is(announce, file):
    announce("new", "stranger_claims:load", inspecting("return Inspection('mine', path.read_text(), 4, 2, 'none')"))
    findings = inspect_checkpoint(str(file))
    assert findings.claims == {"new": Inspection("mine", "mine", 4, 2, "none")}
    assert findings.readers["new"] == "A file of mine."
    assert not findings.refusals and not findings.unable


def test_the_answer_is_looked_for_beside_the_loader_in_its_class(announce, file):
    source = """
        from cdsa_lightning.inspection import Inspection
        class Held:
            @classmethod
            def load(cls, checkpoint, task): ...
            @classmethod
            def inspect(cls, path):
                return Inspection("of the class", "A", 4, 2, "none")
    """
    announce("held", "stranger_held:Held.load", source)
    assert inspect_checkpoint(file).claims["held"].format == "of the class"


def test_a_baseline_may_pass_over_a_file_or_say_nothing_at_all(announce, file):
    announce("new", "stranger_passes:load", inspecting("return None"))
    assert "new" in inspect_checkpoint(file).readers
    assert not inspect_checkpoint(file).claims
    announce("new", "stranger_silent:load", inspecting("pass", inspect="other", imported="inspect"))
    assert "new" not in inspect_checkpoint(file).readers  # Python's module of that name is no answer


def test_who_knows_the_kind_but_cannot_read_the_file_is_kept_apart(announce, file):
    announce("new", "stranger_refuses:load", inspecting("raise InputError('cut off')"))
    findings = inspect_checkpoint(file)
    assert str(findings.refusals["new"]) == "cut off"
    assert not findings.claims and not findings.unable


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        ("stranger_crashes", inspecting("return {}['weights']"), "'stranger'.* could not look at it: KeyError"),
        ("stranger_lacks", inspecting("return None", imported="absent_package"), "needs the package 'absent_package'"),
    ],
)
def test_a_broken_baseline_hides_no_other(announce, file, name, source, text):
    announce("new", f"{name}:load", source)
    findings = inspect_checkpoint(file)
    (error,) = findings.unable
    assert re.search(text, str(error))
    assert "mlp" in findings.readers and not findings.refusals


def test_what_does_not_exist_cannot_be_inspected(tmp_path):
    with pytest.raises(InputError, match="no checkpoint 'a.pt'"):
        inspect_checkpoint(tmp_path / "a.pt")
