"""Settings of the documentation site. `scripts/docs` builds it into docs/_build/html."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the notebooks
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import deconvviz

project = "deconvviz"
author = "The deconvviz authors"
release = version = deconvviz.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "cli_pages",  # the last three are in docs/_ext
    "names",
    "root_pages",
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
show_warning_types = True

# Markdown
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # the anchors that GitHub gives to headings

# Notebooks: executed once, and again only if their code has changed
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"  # progress lines

# API
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented_params"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "name"  # `Recording.project` in docstrings: see docs/_ext/names.py

# HTML
html_theme = "furo"
html_title = f"deconvviz {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
smartquotes = False  # "--" in a text is an option
html_copy_source = False
html_theme_options: dict[str, Any] = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#8ab8f0", "color-brand-content": "#8ab8f0"},
}
copybutton_exclude = ".linenos, .gp, .go"

# External links: `sphinx-build -b linkcheck docs docs/_build/links`, where there is a network
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
