"""Build the HTML documentation: ``sphinx-build -W -n -b html docs build/docs`` (extra ``docs``)."""

from __future__ import annotations

import os

import flask_refunds

project = "flask_refunds"
version = release = flask_refunds.__version__
copyright = "the flask_refunds maintainers"  # noqa: A001 - Sphinx's own name

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"flask_refunds {release}"
html_copy_source = False
exclude_patterns = ["_build"]

# Without a language, blocks are program output and not Python.
highlight_language = "none"
myst_heading_anchors = 3

# Only references to our own names must resolve. Those of other projects resolve on Read the Docs, and are
# ignored elsewhere: an inventory that can't be downloaded is a warning, and -W would fail an offline build.
# stripe and prometheus_client publish no inventory.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:class", r"ObjectId|flask_refunds\..*\._View"),
    (
        r"py:.*",
        r"(bson|blinker|collections|datetime|flask|os|prometheus_client|threading|types|werkzeug)\..*",
    ),
]
if os.environ.get("READTHEDOCS") == "True":
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "blinker": ("https://blinker.readthedocs.io/en/stable", None),
        "flask": ("https://flask.palletsprojects.com/en/stable", None),
        "pymongo": ("https://pymongo.readthedocs.io/en/stable", None),
    }

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
