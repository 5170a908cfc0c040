"""The command line: what it prints, its exit codes, and one clear line for every wrong call."""

import pytest

from symjax.__main__ import main
from symjax.studies import STUDIES
from tests.studies.test_runner import small_study


def error_line(capsys, *words):
    """The one line on stderr of a wrong call."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("symjax: error: ")
    assert err.count("\n") == 1
    return err


def test_list_names_every_study(capsys):
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(STUDIES)


def test_run_writes_and_prints_the_report(tmp_path, capsys, monkeypatch):
    small_study(monkeypatch)
    out = tmp_path / "out"
    assert main(["run", "small", "--size", "5", "--seed", "7", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "seed = 7, size = 5" in printed
    assert (out / "report.txt").read_text() in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "smal"], "no study 'smal'. Did you mean 'small'"),
        (["run", "--size", "3"], "needs a study before --size"),
        (["run", "small"], "--out"),
        (["run", "small", "--out", "OUT", "--sise", "3"], "--sise, 3. Perhaps --size?"),
        (["run", "small", "--out", "OUT", "--size", "big"], "--size: invalid literal"),
        (["run", "small", "--out", "OUT", "--size", "0"], "`size` must be at least 1, got 0."),
        (["run", "small", "--out", "OUT", "--size"], "Missing value for argument '--size'"),
        (["run", "small", "--out", "FILE"], "is a file"),
        (["run", "small", "--out", "FILE/below"], "cannot be written"),
        (["reproduce"], "--out"),
        (["reproduce", "--out", "OUT", "--size", "3"], "--size"),
        (["run", "small", "--out", "OUT", "--chunk", "0"], "`chunk` must be at least 1, got 0."),
        (["run", "small", "--out", "OUT", "--cpu-devices", "-1"], "`cpu_devices` must be"),
        (["run", "small", "--out", "OUT", "--until", "sise=1"], "the quantities: number, size"),
        (["run", "small", "--out", "OUT", "--resume", "--overwrite"], "exclude each other"),
        (["draw", "OUT"], "holds no finished study"),
        (["look", "OUT"], "holds no finished study"),
        (["list", "figure1"], "takes no arguments"),
        (["plot"], "no command 'plot'"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(tmp_path, capsys, monkeypatch, words, said):
    small_study(monkeypatch)
    (tmp_path / "file").write_text("")
    places = {"OUT": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    places["FILE/below"] = places["FILE"] + "/below"
    assert said in error_line(capsys, *[places.get(word, word) for word in words])
    assert not (tmp_path / "out").exists()


def test_help_names_the_options_of_a_study(capsys, monkeypatch):
    small_study(monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main(["run", "small", "--help"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert "--size INT" in printed
    assert "How many networks." in printed
    assert main([]) == 0
    assert "reproduce" in capsys.readouterr().out
