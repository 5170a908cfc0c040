"""What a release rests on: one version, one address, one list of Pythons and requirements."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

import symjax
from symjax.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URLS = PROJECT["urls"]
GITHUB = ROOT / ".github"
read = lambda name: (ROOT / name).read_text()
RELEASE = runpy.run_path(str(GITHUB / "check_release.py"))


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_printed_with_what_a_report_needs(option, capsys):
    assert main([option]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"symjax {symjax.__version__} (Python 3.")
    assert said.count("\n") == 1
    assert "jaxlib" in said


def test_every_file_has_the_version_of_the_project():
    recipe = yaml.safe_load(read("conda/recipe.yaml"))
    zenodo = json.loads(read(".zenodo.json"))
    citation = yaml.safe_load(read("CITATION.cff"))
    versions = {recipe["context"]["version"], zenodo["version"], citation["version"]}
    assert versions == {PROJECT["version"]}


def test_every_file_has_the_address_of_the_project():
    repository = URLS["Repository"].removeprefix("https://")
    owner, name = repository.split("/")[1:]
    assert URLS["Documentation"] == f"https://{owner}.github.io/{name}"
    files = [
        *ROOT.glob("*.*"),
        *ROOT.glob("docs/**/*.*"),
        *ROOT.glob("conda/*"),
        *GITHUB.rglob("*.*"),
    ]
    for path in (p for p in files if p.suffix in {".md", ".yml", ".yaml", ".cff", ".toml", ".py"}):
        text = path.read_text()
        for found in re.findall(r"github\.com/[\w.-]+/symjax[\w-]*", text):
            assert found == repository, path
        for found in re.findall(r"[\w-]+\.github\.io/symjax[\w-]*", text):
            assert f"https://{found}" == URLS["Documentation"], path


def test_the_pythons_that_are_claimed_are_the_ones_that_are_tested():
    claimed = {x.split(" :: ")[-1] for x in PROJECT["classifiers"] if "Python :: 3." in x}
    jobs = yaml.safe_load((GITHUB / "workflows/tests.yml").read_text())["jobs"]
    assert claimed == set(jobs["fast"]["strategy"]["matrix"]["python"])
    assert PROJECT["requires-python"] == f">={min(claimed)}"


def test_the_recipe_for_conda_asks_for_what_the_project_asks_for():
    recipe = yaml.safe_load(read("conda/recipe.yaml"))
    asked = {x.replace(" ", "") for x in recipe["requirements"]["run"]}
    assert asked == {f"python{PROJECT['requires-python']}", *PROJECT["dependencies"]}
    assert recipe["build"]["python"]["entry_points"] == ["symjax = symjax.__main__:main"]


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda p: p.name)
def test_every_workflow_and_form_can_be_read(path):
    content = yaml.safe_load(path.read_text())
    if path.parent.name == "workflows":
        for job in content["jobs"].values():
            assert all(("uses" in step) != ("run" in step) for step in job["steps"])
        for script in re.findall(r"(?:python|bash) ((?:\.ci|\.github|docs)/\S+)", path.read_text()):
            assert (ROOT / script).exists()


def test_a_release_is_refused_where_tag_version_address_and_changelog_disagree():
    check, version = RELEASE["check"], PROJECT["version"]
    repository = URLS["Repository"].partition("github.com/")[2]
    dated = (
        f"# Changelog\n\n## {version} (2027-01-02)\n\n- New.\n\n## 0.0.1 (2026-01-01)\n\n- Old.\n"
    )
    assert check(f"v{version}", repository, PROJECT, dated) == "- New."
    with pytest.raises(ValueError, match=r"tag is 'v9\.9'"):
        check("v9.9", repository, PROJECT, dated)
    with pytest.raises(ValueError, match="This is other/fork"):
        check(f"v{version}", "other/fork", PROJECT, dated)
    with pytest.raises(ValueError, match="no section"):
        check(f"v{version}", repository, PROJECT, "# Changelog\n")
    undated = f"## {version} (not yet released)\n"
    with pytest.raises(ValueError, match="must date"):
        check(f"v{version}", repository, PROJECT, undated)
