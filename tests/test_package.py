"""The package as an installed thing: versions, what it ships, and which way imports point."""

import ast
import importlib.resources
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

import symjax

from .public_names import public_modules, public_objects

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(symjax.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Imports point only to the same line or an earlier one.
STAGES = [
    {"_checks", "_compatibility", "_generic", "_jaxprs", "adapters", "checkpoints"},
    {"_results"},
    {"linalg"},
    {"_optimisers"},
    {"groups"},
    {"actions"},
    {"discovery"},
    {"verification"},
    {"curves"},
    {"geometry"},
    {"bounds"},
    {"barriers"},
    {"topology"},
    {"_orbits"},
    {"matching"},
    {"canonical"},
    {"diagnosis"},
    {"merging"},
    {"transforms"},
    {"networks", "training"},
    {"bands", "ensembles"},
    {"studies"},
    {"_commands"},
    {"plotting", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(STAGES) for name in names}
# A study draws with the plotting helpers; plotting itself must not know the studies.
ALLOWED = {("studies", "plotting")}


def test_the_version_is_one_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert symjax.__version__ == project["version"]
    assert f"\nversion: {symjax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    headings = [x for x in (ROOT / "CHANGELOG.md").read_text().splitlines() if x.startswith("## ")]
    assert headings[0].split()[1] == symjax.__version__


def test_x64_is_off_unless_a_test_asks_for_it():
    assert not jax.config.jax_enable_x64


def test_types_are_shipped():
    assert importlib.resources.files("symjax").joinpath("py.typed").is_file()


def test_every_public_name_is_documented():
    bare = [name for name, value in public_objects().items() if not inspect.getdoc(value)]
    bare += [m.__name__ for m in public_modules() if not m.__doc__]
    assert bare == []


def test_every_public_name_of_the_root_is_importable_from_it():
    exported = [n for n in vars(symjax) if not n.startswith("_")]
    assert len(exported) < 80, "the root is a menu, not a warehouse"
    for name in exported:
        assert getattr(symjax, name) is not None


def test_the_library_never_touches_the_configuration_of_jax():
    touching = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if path.name != "__main__.py"  # a program of its own may
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.config")
        or (isinstance(node, ast.ImportFrom) and node.module in ("jax._src.config", "jax.config"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "jax"
            and any(alias.name == "config" for alias in node.names)
        )
    ]
    assert touching == []


def stage_of(path):
    """The stage that a file of symjax belongs to; None for the package's own __init__."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def stages_imported(path):
    """The stages of symjax that a file imports, wherever in the file the import stands."""
    package = ["symjax", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == "symjax" and len(parts) > 1:
                yield parts[1]


def test_imports_point_only_upwards():
    wrong = []
    for path in FILES:
        stage = stage_of(path)
        if stage is None:
            continue
        assert stage in RANK, f"symjax/{stage} has no place in the order of imports"
        for other in stages_imported(path):
            downwards = RANK.get(other, len(STAGES)) > RANK[stage]
            if downwards and (stage, other) not in ALLOWED:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


def test_the_import_check_sees_a_wrong_import(tmp_path, monkeypatch):
    (tmp_path / "groups").mkdir()
    guilty = tmp_path / "groups" / "_base.py"
    guilty.write_text("from ..curves import chord\nimport symjax.bounds\nfrom . import _finite\n")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert list(stages_imported(guilty)) == ["curves", "bounds", "groups"]


@pytest.mark.parametrize(
    "module",
    [
        "matplotlib",
        "plotly",
        "sklearn",
        "flax",
        "torch",
        "torchax",
        "keras",
        "tqdm",
        "zarr",
        "xarray",
        "safetensors",
        "h5py",
        "gguf",
        "orbax",
        "transformers",
    ],
)
def test_import_needs_no_extra(module):
    assert module not in imported_by_symjax()


def imported_by_symjax(found=[]):  # noqa: B006  (one process for all the parameters)
    if not found:
        # A platform that does not exist: an import that started a backend would fail here.
        code = "import sys, symjax; print(*{name.split('.')[0] for name in sys.modules})"
        found.append(
            subprocess.run(
                [sys.executable, "-W", "error::RuntimeWarning:symjax", "-c", code],
                env=os.environ | {"JAX_PLATFORMS": "no_such_platform"},
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            ).stdout.split()
        )
    return found[0]
