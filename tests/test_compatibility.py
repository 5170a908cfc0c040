"""The two warnings at import: a jaxlib that can hang, and a package of the same name."""

import importlib.metadata
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import symjax
from symjax import _compatibility

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("version", ["0.9.1", "0.9.2", "0.10.0", "0.10.2", "0.11.0", "0.10.0.dev1"])
def test_a_hanging_jaxlib_is_named(version):
    message = _compatibility.hanging_jaxlib(version, "")
    assert version in message
    assert "pip install" in message


@pytest.mark.parametrize("version", ["0.8.0", "0.9.0", "0.9.0.1", "0.11.1", "0.12.0.1", None])
def test_a_sound_jaxlib_is_not(version):
    assert _compatibility.hanging_jaxlib(version, "") is None


def test_a_hanging_jaxlib_matters_on_the_cpu_only():
    assert _compatibility.hanging_jaxlib("0.10.0", "cuda") is None
    assert _compatibility.hanging_jaxlib("0.10.0", "cuda,cpu") is not None


def test_no_collision_where_nothing_is_shared_or_missing():
    assert _compatibility.collision(None, []) is None
    assert _compatibility.collision(["elsewhere/__init__.py"], []) is None


def test_a_package_of_the_same_name_is_reported_with_the_cure():
    for message in (
        _compatibility.collision(["symjax/__init__.py"], []),
        _compatibility.collision(None, ["curves.py"]),
    ):
        assert "pip uninstall -y symjax symjax-symmetry" in message
    assert "curves.py" in message


def test_the_command_for_an_extra_names_packages_and_not_our_own_distribution(monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [f"{r}; extra == '{extra}'" for extra, asked in extras.items() for r in asked]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    assert _compatibility.install("unknown") == "pip install 'symjax-symmetry[unknown]'"
    assert _compatibility.install("flax") == f"pip install '{extras['flax'][0]}'"
    command = shlex.split(_compatibility.install("studies"))
    assert sorted(command[2:]) == sorted(extras["plots"] + extras["studies"][1:])


def test_the_command_without_a_distribution_is_the_extra(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert _compatibility.install("torch") == "pip install 'symjax-symmetry[torch]'"


@pytest.mark.parametrize("damage", ["none", "stranger", "overwritten"])
def test_import_warns_of_a_collision(tmp_path, damage):
    package = tmp_path / "symjax"
    shutil.copytree(
        Path(symjax.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    if damage == "stranger":
        info = tmp_path / "symjax-0.5.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: symjax\nVersion: 0.5.0\n")
        (info / "RECORD").write_text("symjax/__init__.py,,\nsymjax/tensor/base.py,,\n")
    if damage == "overwritten":
        (package / "py.typed").unlink()
    done = subprocess.run(
        [sys.executable, "-c", "import symjax; print(symjax.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.startswith(str(tmp_path)), "another copy was imported"
    assert ("RuntimeWarning" in done.stderr) == (damage != "none")
    assert ("pip uninstall -y symjax symjax-symmetry" in done.stderr) == (damage != "none")
