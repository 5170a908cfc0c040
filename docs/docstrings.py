"""Docstrings as this project writes them, for the API pages: the section Example is one of code."""

import re

import griffe


class Docstrings(griffe.Extension):
    """`Example:` is a section of doctests, as `Examples:` is in the Google style."""

    def on_object(self, *, obj, **options):
        """Rewrite the heading of the one section that differs."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
