"""How Sphinx builds the site: `sphinx-build -W --keep-going -n docs build`."""

import importlib.metadata

project = "frostproof"
release = importlib.metadata.version(project)
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_static_path = html_css_files = ["site.css"]
highlight_language = "text"  # of a fence without a language: what a command prints
smartquotes = False  # it would make one dash of the two before an option
default_role = "code"  # what one backtick means in docstrings and in the help of commands
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_type_aliases = {
    name: name for name in ("AnyLayer", "Choice", "Positions", "Program", "Shape", "Space", "Value")
}
nitpick_ignore_regex = [("py:class", ".*")]  # types that the site does not describe
