"""Documentation: Sphinx over Markdown pages, executed notebooks and docstrings."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import _reference  # noqa: E402

_reference.write(HERE / "reference")

project = "tensorprog"
author = "the tensorprog developers"
release = _reference.version(HERE.parent / "pyproject.toml")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_mathml"]
exclude_patterns = ["_build", "*.py"]
html_math_renderer = "mathml"  # formulas are part of the pages: no script, no network
html_theme = "furo"
html_title = f"tensorprog {release}"
html_static_path = ["static"]
html_css_files = ["docs.css"]
html_copy_source = False
smartquotes = False  # x' is not a quotation

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # make notebooks has executed them
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
routing = "set_fit_request,set_predict_request,set_score_request"  # made by scikit-learn, with its own references
autodoc_default_options = {"members": True, "exclude-members": routing}
napoleon_numpy_docstring = False
