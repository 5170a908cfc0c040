"""What mkdocs does not do by itself: pages made from the code, maths as MathML, links to the API.

- `api/*.md`: one page per public module, one entry per public name, so that none can be missing.
- `notebooks/*.md`: one page per notebook.
- `<!-- layers -->` in a page: the symmetries found in layers of every kind, by discovery itself.
- Maths becomes MathML while the site is built: it is read without a script and without a network.
- `symjax.name` in backticks, in any page, links to that name's entry.
"""

import inspect
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import layers
import notebook_pages

import symjax
from tests.public_names import public_modules, public_objects

MATHS = re.compile(r"<(span|div) class=\"arithmatex\">\\(?:\(|\[)(.*?)\\(?:\)|\])</\1>", re.DOTALL)
NAME = re.compile(r"(?<![\[`])`(symjax(?:\.\w+)+)`(?![\]`])")
FUNCTION = "<mi>(?:log|exp|sin|cos|tan|arcsin|ker)</mi>"
# How many children an element must have; a browser draws an error in the place of any other.
CHILDREN = {"msup": 2, "msub": 2, "mfrac": 2, "mroot": 2, "munder": 2, "mover": 2}
CHILDREN |= {"msubsup": 3, "munderover": 3}
# What the converter leaves to mend: bars are no operators, a function keeps a space from its
# argument unless it is in brackets, and a prime is a raised sign already.
TIDY = [
    (
        r'<mo stretchy="false">(&#x0007C;)</mo>',
        r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>',
    ),
    (  # behind its exponent, where it has one: an msup has two children
        rf"((?<!<msup>)(?<!<msub>)(?<!<msubsup>){FUNCTION}"
        rf"|<(msu[bp])>{FUNCTION}<m[in]>[^<]*</m[in]></\2>)"
        r"(?!<mo stretchy=\"false\">&#x00028;)",
        r'\1<mspace width="0.17em"/>',
    ),
    (
        r"<msup>(<mi>[^<]*</mi>)<mi>(&#x0203[2-4];)</mi></msup>",
        r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>',
    ),
    (
        r"<msubsup>(<mi>[^<]*</mi>)(<m[in]>[^<]*</m[in]>)<mi>(&#x0203[2-4];)</mi></msubsup>",
        r'<msub><mrow>\1<mo lspace="0" rspace="0">\3</mo></mrow>\2</msub>',
    ),
]
OBJECTS = public_objects()


def api_pages():
    """The name and text of the page of every public module."""
    for module in public_modules():
        names = [n for n in OBJECTS if n.rpartition(".")[0] == module.__name__]
        if names:
            text = [f"# {module.__name__}", inspect.getdoc(module) or ""]
            text += [f"::: {name}" for name in sorted(names, key=lambda n: n.lower())]
            yield module.__name__, "\n\n".join(text)


PAGES = dict(api_pages())


def on_config(config):
    """The API in the navigation: the library first, the paper's studies below it."""
    is_study = lambda name: name.startswith("symjax.studies")
    entries = [{name: f"api/{name}.md"} for name in sorted(PAGES, key=lambda n: (is_study(n), n))]
    config.nav.insert(-1, {"API": entries})
    return config


def on_files(files, config):
    """Add the pages that are made from the code."""
    for name, text in PAGES.items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    for path in notebook_pages.NOTEBOOKS:
        text, pictures = notebook_pages.page(path)
        for name, content in ({f"{path.stem}.md": text} | pictures).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def targets():
    """The entry that each name which may stand in a text has."""
    by_identity = {id(value): name for name, value in OBJECTS.items()}
    found = {name: name for name in OBJECTS}
    for module in public_modules():
        for name, value in vars(module).items():
            if id(value) in by_identity:
                found.setdefault(f"{module.__name__}.{name}", by_identity[id(value)])
    return found


TARGETS = targets()
MODULES = {m.__name__ for m in public_modules()}


def link(match):
    """A name as a link to its entry; an unknown name of symjax fails the build."""
    name = match[1]
    if name in TARGETS:
        return f"[`{name}`][{TARGETS[name]}]"
    if name in MODULES or hasattr(symjax, name.split(".")[1]):
        return match[0]
    raise PluginError(f"a page speaks of {name}, which symjax does not have")


def unshown() -> str:
    """The public functions that no notebook uses, as links to their entries."""
    shown = " ".join(path.read_text() for path in notebook_pages.NOTEBOOKS)
    names = [
        name
        for name, value in sorted(OBJECTS.items())
        if inspect.isfunction(value)
        and not name.startswith("symjax.studies")
        and not re.search(rf"\b{name.rpartition('.')[2]}\b", shown)
    ]
    return ", ".join(f"`{name}`" for name in names)


def on_page_markdown(markdown, page, config, files):
    """Put the made parts and the table of statements in, and link names outside blocks of code."""
    if "<!-- unshown -->" in markdown:
        markdown = markdown.replace("<!-- unshown -->", unshown())
    if "<!-- gallery -->" in markdown:
        markdown = markdown.replace("<!-- gallery -->", notebook_pages.gallery())
    if "<!-- layers -->" in markdown:
        markdown = markdown.replace("<!-- layers -->", layers.table())
    if "<!-- short -->" in markdown:
        markdown = markdown.replace("<!-- short -->", layers.short_table())
    if "<!-- statements -->" in markdown:  # not as a snippet, which comes after the links
        table = (ROOT / "README.md").read_text().split("--8<-- [start:statements] -->")[1]
        table = table.split("<!-- --8<-- [end:statements]")[0].strip()
        markdown = markdown.replace("<!-- statements -->", table)
    if page.file.src_uri.startswith("api/"):
        return markdown
    parts = re.split(r"(^ *```.*?^ *```\s*?$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(p if i % 2 else NAME.sub(link, p) for i, p in enumerate(parts))


def mathml(match):
    """One formula; long ones scroll by themselves and never widen the page."""
    kind = "inline" if match[1] == "span" else "block"
    text = match[2].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    formula = convert(text, display=kind)
    for pattern, tidier in TIDY:
        formula = re.sub(pattern, tidier, formula)
    require_valid(formula, text)
    return f'<{match[1]} class="maths">{formula}</{match[1]}>'


def require_valid(formula, text):
    """Fail the build where MathML is not well formed, or has a wrong number of children."""
    try:
        elements = ElementTree.fromstring(formula).iter()
    except ElementTree.ParseError as error:
        raise PluginError(f"no MathML could be made of {text!r}: {error}") from error
    for element in elements:
        name = element.tag.rpartition("}")[2]
        wanted = CHILDREN.get(name, len(element))
        if len(element) != wanted:
            raise PluginError(f"{name} of {text!r} has {len(element)} children, not {wanted}")
        if name == "mi" and (element.text or "").startswith("\\"):
            raise PluginError(f"{element.text} of {text!r} is no command that the converter knows")


def on_page_content(html, page, config, files):
    """Maths, and a frame for tables, which scroll where the window is narrow."""
    return MATHS.sub(mathml, html)


def on_post_build(config):
    """Fail unless every public name has its entry."""
    page = lambda name: (Path(config.site_dir) / "api" / f"{name}.html").read_text()
    texts = {m: page(m) for m in {name.rpartition(".")[0] for name in OBJECTS}}
    missing = [n for n in OBJECTS if f'id="{n}"' not in texts[n.rpartition(".")[0]]]
    if missing:
        raise PluginError(f"no entry for {', '.join(missing)}")
