"""The site: ``sphinx-build -nW --keep-going -c docs . site``, from the repository's folder.

Its pages are the Markdown files as they stand in the repository, so every link and image is the
same here and there. Three things are made while it is built (``generated.py``): the side bar, from
the lists of ``index.md``; the tables of keys and commands; the API, from the docstrings.
"""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import generated  # noqa: E402

from rkkd_cli import __version__  # noqa: E402

project = "rkkd"
copyright = "the rkkd authors, MIT licence"
version = release = __version__

root_doc = "docs/index"
include_patterns = [
    "docs/**.md", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ablations/README.md",
    "results/README.md", "results/*/findings.md", "results/*/table.md",
]  # fmt: skip
exclude_patterns = [".*", "site", "tests", "rkkd_cli", "benchmarks"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
# A test says which pages the index has to list; findings.md has the headings of a part of a page.
suppress_warnings = ["toc.not_included", "myst.header"]
smartquotes = False
highlight_language = "text"
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "code"  # of `text` in a docstring
nitpick_ignore_regex = [(r"py:(class|exc)", ".*")]  # the types of signatures, mostly torch's

html_theme = "furo"
html_title = f"rkkd {version}"
html_extra_path = ["site_root"]
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Have pages completed as they are read, and the equations of docstrings shown as they are."""
    app.connect("source-read", generated.complete_page)
    app.connect("autodoc-process-docstring", generated.show_equations, priority=400)
    app.connect("autodoc-skip-member", generated.skip_fields)
