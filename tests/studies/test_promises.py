"""What a run refuses, puts aside, counts and remembers; against what was put in by hand."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symjax.__main__ import main
from symjax.studies import Result, Statement, Study
from symjax.studies._bounds import check_options, largest_array, require_disk, require_memory
from symjax.studies._files import as_json, sealed
from symjax.studies._lock import NAME, Lock
from symjax.studies._log import Log
from symjax.studies._result import NOT_ALL_HELD
from symjax.studies._runner import How, StudyError, run_study
from symjax.studies._sampling import sample

from .test_runner import Config, files, small_study, stop_after


def on_host(monkeypatch, measure, names=("a",), **statement):
    """A study whose networks ``measure(indices)`` gives; its statement counts finite values."""
    module = small_study(monkeypatch)

    def study(config):
        return Study(config.size, seed=config.seed, on_host=measure, names=names)

    def conclude(config, data):
        a = data["a"]
        row = Statement.of("finite", a >= 0, a, "numbers", **statement)
        return Result({}, [row], module.draw, [], {})

    module.study, module.conclude = study, conclude
    module.draw = lambda data: __import__("symjax.plotting").plotting.blank()[0]
    return module


def rows(i):
    return {"a": i * 1.0}


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (lambda i: {"a": i[:1] * 1.0}, r"'a' of shape \(1,\); expected 4 rows"),
        (lambda i: {"a": 1.0}, r"'a' of shape \(\); expected 4 rows"),
        (lambda i: {"a": np.zeros((4, 2))}, "expected one number for each network"),
        (lambda i: {"a": i}, "'a' as int64 of shape .* as float64"),
        (lambda i: {"a": i * 1.0, "b": i}, "'b' as int64 .* before as absent"),
        (lambda i: {"b": i}, "says that it measures a and returned b"),
        (lambda i: {"a": ["x"] * 4}, "dtype <U1; expected numbers"),
        (lambda i: [1, 2], "returned list; expected a dictionary"),
        (lambda i: {"a": i * 1.0, "x/y": i}, "no quantity can be named 'x/y'"),
        (lambda i: sys.exit(0), r"ended the program while measuring networks: exit\(0\)"),
    ],
)
def test_what_a_study_returns_is_held_against_its_first_chunk(tmp_path, monkeypatch, later, said):
    on_host(monkeypatch, lambda i: rows(i) if i[0] < 4 else later(i))
    with pytest.raises(StudyError, match=f"{said}.* 4 of 12 networks are safe"):
        run_study("small", Config(size=12), tmp_path / "out", How(chunk=4))
    # And from the first chunk on, where it says itself what is wrong.
    if said.startswith(("'a' of", "says", "dtype", "returned", "no quantity", "ended")):
        on_host(monkeypatch, later)
        with pytest.raises(StudyError, match=said):
            run_study("small", Config(size=12), tmp_path / "first", How(chunk=4))
        assert not (tmp_path / "first").exists()


def test_any_name_that_is_a_folder_s_is_a_quantity_s(tmp_path, monkeypatch):
    names = ("run", "file", "aside", "errors", "allow_pickle", "network", "self", "a")
    on_host(monkeypatch, lambda i: {name: i * 1.0 for name in names}, names)
    stop_after(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_study("small", Config(size=6), tmp_path, How(chunk=3))
    Log.commit.left = 9
    result = run_study("small", Config(size=6), tmp_path, How(chunk=3, resume=True))
    for name in names:
        assert result.data[name].tolist() == list(range(6))


def test_networks_that_raise_are_put_aside_and_are_undefined(tmp_path, monkeypatch):
    bad = {3, 8, 9, 10, 11, 14}

    def measure(i):
        if hit := bad & set(i.tolist()):
            raise ArithmeticError(f"no\nvalue at {sorted(hit)}")
        return rows(i)

    on_host(monkeypatch, measure)
    stop_after(monkeypatch, 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match="12 of 16 networks are safe"):
        run_study("small", Config(size=16), tmp_path, How(chunk=4))
    Log.commit.left = 9
    result = run_study("small", Config(size=16), tmp_path, How(chunk=4, resume=True))
    assert result.data["a"].tolist() == [i for i in range(16) if i not in bad]
    assert result.data["put_aside"].tolist() == sorted(bad)
    (row,) = result.statements
    assert (row.networks, row.held_on, row.failed, row.undefined) == (16, 10, 0, 6)
    assert not row.held
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert stored["put_aside"]["errors"]["3"] == "ArithmeticError: no value at [3]"
    said = (tmp_path / "report.txt").read_text()
    assert "finite: UNDEFINED: tried 16, held 10, failed 0, undefined 6" in said
    assert "network 14: ArithmeticError: no value at [14]" in said
    # All of the first chunk: there is nothing to go on with.
    bad.update(range(4))
    with pytest.raises(StudyError, match=r"none can be measured.*ArithmeticError"):
        run_study("small", Config(size=16), tmp_path / "none", How(chunk=4))
    assert not (tmp_path / "none").exists()


def test_a_compiled_network_that_raises_leaves_the_others_their_bits():
    def one(key, index):
        x = jax.random.normal(key, (3,))
        return {"x": x, "i": eqx.error_if(index, (index == 5) | (index == 17), "cannot be")}

    def sound(key, index):
        return {"x": jax.random.normal(key, (3,)), "i": index}

    broken, whole = (list(sample(Study(20, (p,), 1, batch=4), chunk=8)) for p in (one, sound))
    aside = {i: error for piece in broken for i, error in piece.aside.items()}
    assert sorted(aside) == [5, 17]
    assert all("cannot be" in error for error in aside.values())
    for got, expected in zip(broken, whole, strict=True):
        kept = [i - got.start for i in range(got.start, got.stop) if i not in aside]
        assert got.rows == len(kept)
        for name, values in got.data.items():
            np.testing.assert_array_equal(values, expected.data[name][kept])


def test_nan_is_neither_held_nor_failed(tmp_path, monkeypatch, capsys):
    on_host(monkeypatch, lambda i: {"a": np.where(i == 2, np.nan, i - 1.0)})
    words = ["run", "small", "--size", "5", "--out", str(tmp_path)]
    assert main(words) == NOT_ALL_HELD
    assert "finite: UNDEFINED: tried 5, held 3, failed 1, undefined 1" in capsys.readouterr().out
    # The finished result says the same again.
    assert main([*words, "--resume"]) == NOT_ALL_HELD


def test_a_statement_is_held_only_where_all_is_decided():
    assert Statement("s", True, 4, 4, 0.5, "").held
    assert Statement("s", True, 4, 4, None, "").held
    nan = Statement("s", True, 4, 4, math.nan, "")
    assert (nan.held, nan.verdict, nan.as_expected) == (False, "UNDEFINED", False)
    empty = Statement("s", True, 0, 0, math.inf, "")
    assert (empty.held, empty.verdict) == (False, "NOT tried")
    assert not Statement("s", True, 4, 3, 0.5, "", 1).held
    known = Statement("s", False, 4, 3, -0.5, "", expected=False)
    assert (known.as_expected, known.verdict) == (True, "did NOT hold, as expected")
    assert not dataclasses.replace(known, worst_margin=math.nan).as_expected
    with pytest.raises(ValueError, match=r"add up to at most `networks`, got 3 \+ 2 of 4"):
        Statement("s", True, 4, 3, 0.5, "", 2)
    counted = Statement.of("s", [True, True, False], [0.5, math.nan, -1.0], "")
    assert (counted.held_on, counted.failed, counted.undefined) == (1, 1, 1)
    assert counted.worst_margin == -1.0
    assert Statement.of("s", [True, True], None, "").worst_margin is None
    with pytest.raises(ValueError, match="one number for each of the 2"):
        Statement.of("s", [True, True], [1.0], "")


def test_manifests_are_strict_and_sealed(tmp_path, monkeypatch):
    text = as_json({"a": math.nan, "b": [np.float32(np.inf), -math.inf], "c": np.int8(3), 1: None})
    refuse = lambda token: pytest.fail(token)
    assert json.loads(text, parse_constant=refuse) == {
        "a": "NaN", "b": ["Infinity", "-Infinity"], "c": 3, "1": None
    }  # fmt: skip
    small_study(monkeypatch)
    run_study("small", Config(), tmp_path)
    path = tmp_path / "manifest.json"
    whole = json.loads(path.read_text())

    def refused(said, stored):
        path.write_text(stored if isinstance(stored, str) else json.dumps(stored))
        for words in (["verify"], ["draw"], ["look"]):
            assert main([*words, str(tmp_path)]) == 2
        with pytest.raises(StudyError, match=said):
            run_study("small", Config(), tmp_path, How(resume=True))

    refused("was edited or is damaged", whole | {"study": "/tmp/evil.py"})
    refused("is of another version of symjax: its format is 1", whole | {"format": 1})
    refused("cannot be read", "{")
    refused("is not of a study", [])
    path.write_text(as_json(sealed(whole)))
    run_study("small", Config(), tmp_path, How(resume=True))


def test_verify_names_every_file_that_is_not_as_it_was(tmp_path, monkeypatch, capsys):
    small_study(monkeypatch)
    run_study("small", Config(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["verify", str(tmp_path)]) == 0
    assert "files are as they were written" in capsys.readouterr().out
    everything = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".txt"]
    everything = [*everything, tmp_path / "report.txt"]
    for path in everything:
        whole = path.read_bytes()
        if path.name == "manifest.json" and path.parent == tmp_path:
            continue
        for damage in (whole[:-1], b"", bytes([whole[0] ^ 1]) + whole[1:], None):
            path.unlink() if damage is None else path.write_bytes(damage)
            assert main(["verify", str(tmp_path)]) == 2
            assert str(path.relative_to(tmp_path)) in capsys.readouterr().err
        with pytest.raises(StudyError, match=path.name):
            run_study("small", Config(), tmp_path, How(resume=True))
        path.write_bytes(whole)
    (tmp_path / "data.zarr" / "more").write_text("")
    assert main(["verify", str(tmp_path)]) == 2
    assert "data.zarr/more is not of the result" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "data.zarr")]) == 2


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path, monkeypatch):
    small_study(monkeypatch)
    out = tmp_path / "out"
    with Lock(out):
        held = json.loads((out / NAME).read_text())
        assert held["process"] == os.getpid()
        with pytest.raises(StudyError, match=f"process {os.getpid()} on .* writes to it since 20"):
            run_study("small", Config(), out)
    assert not out.exists()
    # What a killed process left is stale: nobody holds it, and its folder is taken over.
    out.mkdir()
    for left in ('{"host": "elsewhere", "process": 1, "start": "long ago"}', ""):
        (out / NAME).write_text(left)
        run_study("small", Config(), out)
        assert not (out / NAME).exists()


def test_a_run_that_another_one_waits_to_replace_goes_on(tmp_path, monkeypatch):
    """A finished result, and over it an unfinished run: each is resumed by its own command."""
    small_study(monkeypatch)
    config = [Config(size=6, seed=seed) for seed in (0, 1)]
    run_study("small", config[0], tmp_path)
    stop_after(monkeypatch, 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_study("small", config[1], tmp_path, How(chunk=2))
    before = files(tmp_path)
    run_study("small", config[0], tmp_path, How(resume=True))
    assert files(tmp_path) == before
    Log.commit.left = 9
    result = run_study("small", config[1], tmp_path, How(resume=True))
    assert result.data["number"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "unfinished").exists()


def test_a_rerun_that_was_killed_before_it_had_begun_leaves_nothing(tmp_path, monkeypatch):
    small_study(monkeypatch)
    run_study("small", Config(size=6), tmp_path)
    before = files(tmp_path)
    (tmp_path / "unfinished").mkdir()
    run_study("small", Config(size=6), tmp_path, How(resume=True))
    assert files(tmp_path) == before
    assert not (tmp_path / "unfinished").exists()


def test_numbers_that_no_study_can_use_are_named():
    @dataclasses.dataclass(frozen=True)
    class Options:
        seed: int = 0
        count: int = 1
        scale: float = 1.0
        limit: float = math.inf

    check_options(Options(seed=2**32 - 1, count=2**31 - 1, limit=math.nan))
    for wrong in ({"seed": -1}, {"seed": 2**32}, {"seed": True}, {"count": 2**31},
                  {"count": -(10**30)}, {"scale": math.inf}, {"scale": math.nan}):  # fmt: skip
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must"):
            check_options(Options(**wrong))


def test_arrays_that_cannot_fit_are_told_with_their_bytes(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"it needs 8e\+03 PB of memory"):
        require_memory(8e18, "it")
    with pytest.raises(ValueError, match=r"it needs 1 PB on the disk of .*, and .*B are free"):
        require_disk(1e15, tmp_path / "not" / "there", "it")

    def inner(x):
        return jnp.sum(jnp.ones((1000, 50)) @ jnp.ones((50, 2000)) * x)

    jaxpr = jax.make_jaxpr(lambda x: jax.lax.map(inner, x))(jnp.ones(3))
    assert largest_array(jaxpr) == 4 * 1000 * 2000
    module = small_study(monkeypatch)
    huge = lambda key, index: {"size": jnp.sum(jax.random.normal(key, (10**7, 10**7)))}
    module.study = lambda config: Study(config.size, (huge,), batch=2)
    with pytest.raises(StudyError, match=r"a batch of 2 networks needs 800 TB of memory"):
        run_study("small", Config(), tmp_path / "out")
    many = lambda key, index: {"size": jax.random.normal(key, (10**6,))}
    module.study = lambda config: Study(config.size, (many,), batch=1)
    with pytest.raises(StudyError, match=r"a chunk of \d+ networks needs 8.59 PB of memory"):
        run_study("small", Config(size=2**31 - 1), tmp_path / "out", How(chunk=2**31 - 1))
    assert not (tmp_path / "out").exists()


def test_a_closed_output_is_one_line(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from symjax.__main__ import main; sys.exit(main(['list']))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "output was closed" in done.stderr
