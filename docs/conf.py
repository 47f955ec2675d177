"""Settings of Sphinx: `sphinx-build -W docs build/docs` makes the documentation site."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this checkout

import nst_tf

project = "nst_tf"
author = "the authors of nst_tf"
copyright = author
release = version = nst_tf.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # a test executes the notebook and the examples
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "nst_tf"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
