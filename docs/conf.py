"""The documentation as a web site: ``sphinx-build -W -n -b html docs build/docs`` (extra ``docs``)."""

from __future__ import annotations

import flask_refunds

project = "flask_refunds"
version = release = flask_refunds.__version__
copyright = "the flask_refunds maintainers"  # noqa: A001 - Sphinx's own name

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"flask_refunds {release}"
html_copy_source = False
exclude_patterns = ["_build"]

# Unmarked blocks are output of programs and not Python.
highlight_language = "none"
myst_heading_anchors = 3
# The words of other people's pages are theirs; only our own names must lead somewhere.
nitpick_ignore = [("py:class", "flask_refunds.web.auth._View"), ("py:class", "ObjectId")]
nitpick_ignore_regex = [(r"py:.*", r"(bson|blinker|collections|datetime|flask|prometheus_client|types)\..*")]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
