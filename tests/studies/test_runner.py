"""The runner: everything or nothing, and errors before any work."""

import dataclasses
import json
import os
import sys
import types

import numpy as np
import pytest

from symjax.studies import STUDIES, Result, Statement, _reproduce, _runner
from symjax.studies._report import table


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of a small study."""

    seed: int = 0
    """Seed."""
    size: int = 3
    """How many numbers."""

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"`size` must be at least 1, got {self.size}.")


def small_study(monkeypatch, name="small", fail=None):
    """Register a study that counts to a few, or fails; returns its module."""
    from symjax.plotting import blank

    def run(config, progress):
        module.calls += 1
        progress(0.5, "half")
        if fail:
            raise fail
        data = {"numbers": np.arange(config.size) + config.seed}
        rows = [Statement("counting", True, config.size, config.size, 0.25, "numbers")]
        return Result(data, rows, draw, ["A note."], {"numbers": "(number,) one"})

    def draw(data):
        figure, (axes,) = blank()
        axes.plot(data["numbers"])
        return figure

    module = types.ModuleType(f"symjax.studies.{name}")
    module.Config, module.run, module.draw, module.calls = Config, run, draw, 0
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STUDIES, name, "A small study")
    return module


def test_a_result_describes_itself(tmp_path, monkeypatch):
    small_study(monkeypatch)
    out = tmp_path / "made" / "on" / "the" / "way"
    _runner.run_study("small", Config(seed=4), out)
    assert sorted(os.listdir(out)) == ["data.npz", "figure.png", "manifest.json", "report.txt"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["study"] == "small"
    assert manifest["seed"] == 4
    assert manifest["configuration"] == {"seed": 4, "size": 3}
    assert manifest["versions"]["jax"]
    assert manifest["device"]["platform"] == "cpu"
    assert manifest["wall_seconds"] >= 0
    assert manifest["arrays"]["numbers"] == {
        "shape": [3],
        "dtype": "int64",
        "axes_and_unit": "(number,) one",
    }
    with np.load(out / "data.npz") as data:
        assert data["numbers"].tolist() == [4, 5, 6]
        assert json.loads(str(data["manifest"])) == manifest
    report = (out / "report.txt").read_text()
    assert "counting: held on 3 of 3; worst margin 0.25" in report
    assert "A note." in report


def test_the_same_study_may_be_run_again_and_another_may_not(tmp_path, monkeypatch):
    small_study(monkeypatch)
    other = small_study(monkeypatch, "other")
    _runner.run_study("small", Config(), tmp_path)
    _runner.run_study("small", Config(seed=1), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["seed"] == 1
    with pytest.raises(_runner.StudyError, match="a result of 'small'"):
        _runner.run_study("other", Config(), tmp_path)
    assert other.calls == 0
    _runner.run_study("other", Config(), tmp_path, overwrite=True)
    assert json.loads((tmp_path / "manifest.json").read_text())["study"] == "other"


def test_foreign_files_are_refused_before_any_work_and_never_removed(tmp_path, monkeypatch):
    module = small_study(monkeypatch)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(_runner.StudyError, match="not a study's result"):
        _runner.run_study("small", Config(), tmp_path)
    assert module.calls == 0
    _runner.run_study("small", Config(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, below):
    module = small_study(monkeypatch)
    (tmp_path / "file").write_text("")
    with pytest.raises(_runner.StudyError, match=r"--out .*file"):
        _runner.run_study("small", Config(), tmp_path / "file" / below)
    assert module.calls == 0


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, failure):
    small_study(monkeypatch, fail=failure)
    with pytest.raises(type(failure)):
        _runner.run_study("small", Config(), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_failure_while_writing_keeps_the_earlier_result(tmp_path, monkeypatch):
    small_study(monkeypatch)
    _runner.run_study("small", Config(), tmp_path)
    monkeypatch.setattr(_runner, "report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _runner.run_study("small", Config(seed=9), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["seed"] == 0
    assert sorted(os.listdir(tmp_path)) == [
        "data.npz",
        "figure.png",
        "manifest.json",
        "report.txt",
    ]


def test_a_study_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(_runner.StudyError, match="Did you mean 'figure1'"):
        _runner.load("figure-1")


def test_a_missing_package_names_the_extra(monkeypatch):
    module = small_study(monkeypatch)
    module.REQUIRES = ("a_package_that_is_not_there",)
    with pytest.raises(_runner.StudyError, match=r"pip install 'symjax-symmetry\[studies\]'"):
        _runner.load("small")


def test_reproduce_runs_all_and_ends_with_one_table(tmp_path, monkeypatch):
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    small_study(monkeypatch, "one")
    small_study(monkeypatch, "two", fail=ArithmeticError("broken"))
    small_study(monkeypatch, "three")
    said = []
    done = _reproduce.reproduce(tmp_path / "all", seed=2, say=said.append)
    assert not done
    assert [line.split()[0] for line in said[:3]] == ["one", "two:", "three"]
    assert "ArithmeticError: broken" in said[1]
    assert said[-1].count("counting") == 2
    assert "Studies that failed: two." in said[-1]
    assert (tmp_path / "all" / "summary.txt").read_text().strip() == said[-1].strip()
    assert json.loads((tmp_path / "all/three/manifest.json").read_text())["seed"] == 2
    # A second time over its own result is allowed, and over that of an interrupted run.
    _reproduce.reproduce(tmp_path / "all", say=said.append)
    (tmp_path / "all" / "manifest.json").unlink()
    (tmp_path / "all" / "summary.txt").unlink()
    _reproduce.reproduce(tmp_path / "all", say=said.append)


def test_the_table_is_aligned_and_says_what_failed():
    rows = [
        ("a", Statement("Prop. 1", True, 10, 10, 0.5, "")),
        ("b", Statement("Thm. 2 as printed", False, 1000, 3, float("nan"), "")),
    ]
    head, rule, first, second = table(rows).splitlines()
    assert set(rule) == {"-"}
    assert first.split() == ["Prop.", "1", "a", "10", "10", "yes", "0.5"]
    assert second.split()[-4:] == ["1000", "3", "NO", "exact"]
    assert head.index("study") == first.index("a ") == second.index("b ")


def test_progress_is_a_bar_for_a_terminal_and_silence_for_a_log(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    progress = _reproduce.watcher()("study")
    progress(0.5, "half way")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = _reproduce.watcher()("study")
    progress(0.5, "half way")
    progress(1.0, "done")
    shown = capsys.readouterr().err
    assert "study" in shown
    assert "50%  half way" in shown
