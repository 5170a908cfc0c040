"""Every annotation of symjax, checked while the tests run: jaxtyping's import hook with beartype.

A call that an annotation forbids must be refused by symjax itself, with the error that names the
argument. So a call with such arguments goes on, and the test meets the function's own error; where
the function returns all the same, either it or its annotation is wrong, and the test fails.
"""

import functools
import inspect
from collections.abc import Callable

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeCallHintViolation

_BEARTYPE = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a good float


def install() -> None:
    """Check every module of symjax that is imported from now on in this process."""
    jaxtyping.install_import_hook("symjax", "tests.annotations.check")


def check(function: Callable) -> Callable:
    """What jaxtyping calls on the two stand-ins that it makes of a function.

    The first takes the arguments, before the call. The second takes the arguments and the result,
    after it: that one is checked.
    """
    if "ret0" not in inspect.signature(function).parameters:
        return function
    checked = _BEARTYPE(function)
    return _after_check_init(checked) if function.__name__ == "__init__" else checked


def _after_check_init(checked):
    """Equinox calls ``__check_init__`` after ``__init__``: it may refuse the fields yet."""

    @functools.wraps(checked)
    def wrapped(self, *args, **kwargs):
        try:
            checked(self, *args, **kwargs)
        except BeartypeCallHintViolation:
            if not _refuses_itself(self):
                raise

    return wrapped


def _refuses_itself(module):
    try:
        for kind in type(module).__mro__:
            vars(kind).get("__check_init__", lambda self: None)(module)
    except ValueError:
        return True
    return False
