"""The runner: what survives an error, and every refusal before any work."""

import dataclasses
import json
import os
import shutil
import sys
import types

import jax
import numpy as np
import pytest
import xarray

from symjax.studies import STUDIES, Result, Statement, Study, _load, _reproduce, _runner, _stored
from symjax.studies._dataset import Stored
from symjax.studies._log import Log
from symjax.studies._report import table
from symjax.studies._result import FAILED
from symjax.studies._runner import How, StudyError, run_study


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of a small study."""

    seed: int = 0
    """Seed."""
    size: int = 3
    """How many networks."""

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"`size` must be at least 1, got {self.size}.")


def small_study(monkeypatch, name="small", fail=None):
    """Register a study of random numbers, or one that fails at last; returns its module."""
    from symjax.plotting import blank

    def study(config):
        module.calls += 1

        def one(key, index):
            return {"number": index + config.seed, "size": jax.random.normal(key)}

        return Study(config.size, (one,), config.seed, batch=2)

    def conclude(config, data):
        if fail:
            raise fail
        rows = [Statement("counting", True, config.size, config.size, 0.25, "numbers")]
        units = {"number": "(network,) one", "size": "(network,) normal", "times": "(time,) s"}
        return Result({"times": np.linspace(0, 1, 5)}, rows, draw, ["A note."], units)

    def draw(data):
        figure, (axes,) = blank()
        axes.plot(data["size"])
        return figure

    module = types.ModuleType(f"symjax.studies.{name}")
    module.Config, module.study, module.conclude, module.draw = Config, study, conclude, draw
    module.calls = 0
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STUDIES, name, "A small study")
    return module


def files(folder):
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stop_after(monkeypatch, chunks, error=None):
    """Let a run commit so many chunks, then raise; None lets it commit again."""
    commit = Log.commit

    def limited(self, piece):
        if limited.left == 0:
            raise error
        limited.left -= 1
        commit(self, piece)

    limited.left = chunks
    monkeypatch.setattr(Log, "commit", limited)
    return lambda: monkeypatch.setattr(Log, "commit", commit)


def test_a_result_describes_itself(tmp_path, monkeypatch):
    small_study(monkeypatch)
    out = tmp_path / "made" / "on" / "the" / "way"
    run_study("small", Config(seed=4), out)
    assert sorted(os.listdir(out)) == ["data.zarr", "figure.png", "manifest.json", "report.txt"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["study"] == "small"
    assert manifest["seed"] == 4
    assert manifest["configuration"] == {"seed": 4, "size": 3}
    assert manifest["versions"]["jax"]
    assert manifest["device"]["platform"] == "cpu"
    assert manifest["wall_seconds"] >= 0
    expected = {"shape": [3], "dtype": "int32", "axes_and_unit": "(network,) one"}
    assert manifest["arrays"]["number"] == expected
    with xarray.open_zarr(out / "data.zarr") as data:
        assert data["number"].values.tolist() == [4, 5, 6]
        assert data["number"].dims == ("network",)
        assert data["times"].dims == ("time",)
        assert data["times"].attrs["long_name"] == "s"
        assert data.attrs["configuration"] == {"seed": 4, "size": 3}
        assert data.attrs["versions"]["jax"] == jax.__version__
    report = (out / "report.txt").read_text()
    assert "counting: held on 3 of 3; worst margin 0.25" in report
    assert "A note." in report
    assert report.splitlines()[-2].split()[:3] == ["number", "3", "5"]
    assert manifest["means"]["number"]["mean"] == 5


def test_the_same_study_may_be_run_again_and_another_may_not(tmp_path, monkeypatch):
    small_study(monkeypatch)
    small_study(monkeypatch, "other")
    run_study("small", Config(), tmp_path)
    run_study("small", Config(seed=1), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["seed"] == 1
    before = files(tmp_path)
    with pytest.raises(StudyError, match="a result of 'small'"):
        run_study("other", Config(), tmp_path)
    assert files(tmp_path) == before
    run_study("other", Config(), tmp_path, How(overwrite=True))
    assert json.loads((tmp_path / "manifest.json").read_text())["study"] == "other"


def test_foreign_files_are_refused_before_any_work_and_never_removed(tmp_path, monkeypatch):
    small_study(monkeypatch)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="not a study's result"):
        run_study("small", Config(), tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    run_study("small", Config(), tmp_path, How(overwrite=True))
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="not a study's; move it away"):
        run_study("small", Config(), tmp_path, How(overwrite=True))
    for folder in (tmp_path, tmp_path / "unfinished"):
        assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, below):
    small_study(monkeypatch)
    monkeypatch.setattr(_runner, "sample", lambda *_: pytest.fail("work was done"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file"):
        run_study("small", Config(), tmp_path / "file" / below)


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_failure_before_the_first_chunk_leaves_nothing_behind(tmp_path, monkeypatch, failure):
    small_study(monkeypatch)
    stop_after(monkeypatch, 0, failure)
    with pytest.raises(type(failure)):
        run_study("small", Config(), tmp_path / "out" / "deeper")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("failure", "kind"), [(StudyError("disk full."), StudyError), (KeyboardInterrupt(), None)]
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, failure, kind):
    small_study(monkeypatch)
    config, cut, whole = Config(size=9), tmp_path / "cut", tmp_path / "whole"
    run_study("small", config, whole)
    again = stop_after(monkeypatch, 2, failure)
    with pytest.raises(kind or KeyboardInterrupt, match=r"4 of 9 networks are safe .* --resume"):
        run_study("small", config, cut, How(chunk=2))
    again()
    before = files(cut)
    with pytest.raises(StudyError, match="add --resume to go on"):
        run_study("small", config, cut)
    with pytest.raises(StudyError, match=r"configuration.seed is 0 there and 1 here"):
        run_study("small", Config(size=9, seed=1), cut, How(resume=True))
    monkeypatch.setattr("symjax.__version__", "9.9")
    with pytest.raises(StudyError, match=r"versions.symjax is .* there and 9.9 here"):
        run_study("small", config, cut, How(resume=True))
    monkeypatch.undo()
    small_study(monkeypatch)
    assert files(cut) == before
    # Another chunk is no other run.
    run_study("small", config, cut, How(chunk=3, resume=True))
    assert files(cut / "data.zarr") == files(whole / "data.zarr")
    assert not (cut / "unfinished").exists()
    # A finished run has nothing left to do, and is not another run's to continue.
    before = files(cut)
    run_study("small", config, cut, How(resume=True))
    with pytest.raises(StudyError, match=r"configuration.size is 9 there and 8 here"):
        run_study("small", Config(size=8), cut, How(resume=True))
    assert files(cut) == before


def test_a_damaged_log_is_refused_and_left_as_it_is(tmp_path, monkeypatch):
    small_study(monkeypatch)
    config, resume = Config(size=9), How(chunk=2, resume=True)
    stop_after(monkeypatch, 3, KeyboardInterrupt())
    for out in ("one", "foreign"):
        with pytest.raises(KeyboardInterrupt):
            run_study("small", config if out == "one" else Config(size=8), tmp_path / out, resume)
        Log.commit.left = 3
    log = tmp_path / "one" / "unfinished"
    chunk = log / "0000000002-0000000004.npz"
    whole = chunk.read_bytes()

    def refused(match):
        before = files(tmp_path)
        with pytest.raises(StudyError, match=match):
            run_study("small", config, tmp_path / "one", resume)
        assert files(tmp_path) == before

    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for bad in (whole[: len(whole) // 2], b"", bytes(flipped)):
        chunk.write_bytes(bad)
        refused("0000000002-0000000004.npz is damaged")
    chunk.unlink()
    refused("networks 2 to 4 are missing")
    foreign = tmp_path / "foreign" / "unfinished" / chunk.name
    shutil.copy(foreign, chunk)
    refused("is of another run")
    chunk.write_bytes(whole)
    (log / "manifest.json").write_text("{")
    refused("manifest.json cannot be read")


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    small_study(monkeypatch)
    config, out = Config(size=9), tmp_path / "out"
    save, calls = np.savez, []

    def full(*_):
        raise OSError(28, "No space left on device")

    def nearly_full(file, **arrays):
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half")
            full()
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", nearly_full)
    with pytest.raises(StudyError, match=r"No space left on device. 4 of 9 networks are safe"):
        run_study("small", config, out, How(chunk=2))
    names = sorted(os.listdir(out / "unfinished"))
    assert names == ["0000000000-0000000002.npz", "0000000002-0000000004.npz", "manifest.json"]
    # Full again when the dataset is written: all networks are there already.
    monkeypatch.setattr(_runner, "finish", full)
    with pytest.raises(StudyError, match=r"No space left on device. All networks are safe"):
        run_study("small", config, out, How(resume=True))
    assert len(list((out / "unfinished").glob("*.npz"))) == 3
    monkeypatch.undo()
    small_study(monkeypatch)
    run_study("small", config, out, How(resume=True))
    assert len(Stored(out / "data.zarr")["size"]) == 9


def test_a_failure_in_the_figure_keeps_the_earlier_result_and_the_networks(tmp_path, monkeypatch):
    small_study(monkeypatch)
    run_study("small", Config(), tmp_path)
    monkeypatch.setattr(_runner, "report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_study("small", Config(seed=9), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["seed"] == 0
    assert Log(tmp_path / "unfinished", {}).exists()


def test_a_run_stops_at_the_standard_error_asked_for(tmp_path, monkeypatch):
    small_study(monkeypatch)
    config = Config(size=10**6)
    run_study("small", config, tmp_path, How(until="size=0.05", chunk=128))
    size = Stored(tmp_path / "data.zarr")["size"]
    error = lambda n: size[:n].std(ddof=1) / n**0.5
    assert error(len(size)) <= 0.05 < error(len(size) - 128)
    with pytest.raises(StudyError, match=r"no quantity 'sise'; the quantities: number, size"):
        run_study("small", config, tmp_path, How(until="sise=0.05"))
    for bad in ("size", "size=0", "size=x"):
        with pytest.raises(StudyError, match="expected NAME=STANDARD_ERROR above 0"):
            run_study("small", config, tmp_path, How(until=bad))


def test_a_figure_is_drawn_again_from_what_is_stored(tmp_path, monkeypatch):
    module = small_study(monkeypatch)
    run_study("small", Config(), tmp_path)
    before = (tmp_path / "figure.png").read_bytes()
    (tmp_path / "figure.png").unlink()
    module.study = module.conclude = lambda *_: pytest.fail("work was done")
    assert _stored.draw(tmp_path) == tmp_path / "figure.png"
    assert (tmp_path / "figure.png").read_bytes() == before
    assert _stored.draw(tmp_path, tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(StudyError, match="cannot be written"):
        _stored.draw(tmp_path, tmp_path / "nowhere" / "figure.png")
    (tmp_path / "data.zarr" / "size" / "c" / "0").unlink()
    with pytest.raises(StudyError, match="size is not a study's data, or damaged"):
        _stored.draw(tmp_path)
    with pytest.raises(StudyError, match="holds no finished study"):
        _stored.draw(tmp_path / "data.zarr")


@pytest.mark.parametrize("wrong", [{"chunk": 0}, {"chunk": -3}, {"overwrite": 1, "resume": 1}])
def test_a_wrong_way_to_run_is_named(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        How(**wrong)


def test_a_study_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(StudyError, match="Did you mean 'figure1'"):
        _load.load("figure-1")


def test_a_missing_package_names_the_extra(monkeypatch):
    module = small_study(monkeypatch)
    module.REQUIRES = ("a_package_that_is_not_there",)
    with pytest.raises(StudyError, match=r"pip install 'matplotlib>=.* 'zarr>="):
        _load.load("small")


def test_reproduce_runs_all_and_ends_with_one_table(tmp_path, monkeypatch):
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    small_study(monkeypatch, "one")
    small_study(monkeypatch, "two", fail=ArithmeticError("broken"))
    small_study(monkeypatch, "three")
    said = []
    done = _reproduce.reproduce(tmp_path / "all", seed=2, say=said.append)
    assert done == FAILED
    assert [line.split()[0] for line in said[:3]] == ["one", "two:", "three"]
    assert "ArithmeticError: broken" in said[1]
    assert said[-1].count("counting") == 2
    assert "Studies that failed: two." in said[-1]
    assert (tmp_path / "all" / "summary.txt").read_text().strip() == said[-1].strip()
    assert json.loads((tmp_path / "all/three/manifest.json").read_text())["seed"] == 2
    # A second time over its own result is allowed, and over that of an interrupted run.
    _reproduce.reproduce(tmp_path / "all", seed=2, how=How(resume=True), say=said.append)
    (tmp_path / "all" / "manifest.json").unlink()
    (tmp_path / "all" / "summary.txt").unlink()
    _reproduce.reproduce(tmp_path / "all", seed=2, how=How(resume=True), say=said.append)


def test_the_table_is_aligned_and_says_what_failed():
    rows = [
        ("a", Statement("Prop. 1", True, 10, 10, 0.5, "")),
        ("b", Statement("Thm. 2 as printed", False, 1000, 3, None, "", 7)),
    ]
    head, rule, first, second = table(rows).splitlines()
    assert set(rule) == {"-"}
    assert first.split() == ["Prop.", "1", "a", "10", "10", "0", "0", "yes", "0.5"]
    assert second.split()[-3:] == ["7", "?", "none"]
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


MINE = '''"""A study of one's own.

More about it.
"""
import dataclasses
import jax
import numpy as np
from symjax.plotting import blank
from symjax.studies import Result, Study

@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    """Seed."""

def study(config):
    return Study(3, (lambda key, index: {"size": jax.random.normal(key)},), config.seed)

def conclude(config, data):
    return Result({}, [], draw, [])

def draw(data):
    figure, (axes,) = blank()
    axes.plot(data["size"])
    return figure
'''


def test_a_file_is_a_study_as_well(tmp_path, monkeypatch):
    file, out = tmp_path / "mine.py", tmp_path / "out"
    file.write_text(MINE)
    monkeypatch.chdir(tmp_path)
    config = _load.load("mine.py").Config(seed=2)
    run_study("mine.py", config, out)
    stored = json.loads((out / "manifest.json").read_text())
    assert (stored["study"], stored["title"]) == (str(file), "A study of one's own")
    assert run_study("mine.py", config, out, How(resume=True)).data["size"].shape == (3,)
    (out / "figure.png").unlink()
    monkeypatch.chdir("/")
    # Drawing executes the file that the user names, if it is the one that was run, and no other.
    with pytest.raises(StudyError, match=r"name its file with --study"):
        _stored.draw(out)
    assert _stored.draw(out, study=file).exists()
    # A file that has changed is another study; what is no study says what it lacks.
    file.write_text(MINE + "\n")
    with pytest.raises(StudyError, match="file is"):
        run_study(str(file), _load.load(str(file)).Config(seed=2), out, How(resume=True))
    with pytest.raises(StudyError, match="is not the file that made this result"):
        _stored.draw(out, study=file)
    file.write_text("x = 1\n")
    with pytest.raises(StudyError, match="no Config and no draw and no study and no conclude"):
        _load.load(str(file))
    with pytest.raises(StudyError, match=r"no file .*nowhere\.py"):
        _load.load("nowhere.py")
