"""Which names of symjax are public: what several tests of the package as a whole ask."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import symjax


def public_modules() -> list[ModuleType]:
    """The package and every module below it whose name has no leading underscore."""
    names = [m.name for m in pkgutil.walk_packages(symjax.__path__, "symjax.")]
    public = [n for n in names if not any(part.startswith("_") for part in n.split("."))]
    return [symjax, *map(importlib.import_module, public)]


def public_objects() -> dict[str, object]:
    """Every public function and class by its full name, each once, in the module it is for."""
    found = {}
    for module in public_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and _is_home(module, value):
                found[f"{module.__name__}.{name}"] = value
    return found


def _is_home(module, value):
    if not (inspect.isclass(value) or inspect.isroutine(value) or hasattr(value, "__wrapped__")):
        return False
    home = getattr(value, "__module__", None) or ""
    return home == module.__name__ or home.startswith(module.__name__ + "._")
