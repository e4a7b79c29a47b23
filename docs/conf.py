"""The documentation site: the pages of docs/, the READMEs, and what is generated from the code.

Sphinx reads the whole repository, so that a link between two files is right on the hosting site and here. Nothing that
the built pages show comes from a network: system fonts, MathML, no script but Sphinx's own.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from cdsa_lightning import __version__  # noqa: E402

project = "cdsa-lightning"
author = "the authors of cdsa-lightning"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "mathml", "cdsa_site"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/*.ipynb", "baselines/README.md"]
exclude_patterns = [".*", "runs*", "wandb", "dist", "build", "docs/_build", "tests", "benchmarks", "**/__pycache__"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_target"]  # a line may begin with %
nb_execution_mode = "off"  # tests/ runs the notebook; the site shows what it kept
nb_ipywidgets_js = {}

smartquotes = False  # an option's two dashes stay two
default_role = "code"  # docstrings write `name`, as everywhere in this project
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings tell shapes and units, which types do not
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!cdsa_).*")]  # others' pages would need a network

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"cdsa-lightning {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_search_summary = False  # it would be fetched, which pages opened from a disk may not
html_extra_path = ["_front"]  # index.html, which leads from the top of the built folder to the front page
