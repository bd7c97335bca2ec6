"Sphinx's settings for the site that `make docs` builds; `make_docs.py` gathers what it reads."

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from make_docs import settings  # noqa: E402

about = settings()
project, author, version = about["title"], about["author"], about["version"]
copyright = about["copyright"].removeprefix("© ")
root_doc, language = "index", "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton", "reference"]

# Notebooks are shown as they are committed. Widgets need a kernel: their static picture stands in for them, and the
# libraries that would draw them are not asked for.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
myst_enable_extensions = ["attrs_block", "dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, "site": "{{path}}"}
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # PyTorch's words about its own classes are not this project's
autodoc_typehints = "none"  # they stand in the table of parameters
add_module_names = False
python_maximum_signature_line_length = 80
python_display_short_literal_types = True

html_theme = "furo"
html_title = project
html_baseurl = about["doc_host"] + about["doc_baseurl"] + "/"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = html_copy_source = False
html_theme_options = {
    "top_of_page_buttons": [],
    "footer_icons": [
        {"name": "Source", "url": about["git_url"], "html": "Source", "class": ""},
    ],
}
copybutton_exclude = ".linenos, .gp"
exclude_patterns = ["_pictures"]


def setup(app):
    from pygments.lexers.special import TextLexer

    app.add_lexer("csv", TextLexer)
