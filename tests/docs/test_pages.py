"What Sphinx is given to read: notebooks less their plumbing, links that fit, sections from where they stand."

import dataclasses
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from folders import write_folder
from recipes import BLOCK

from musicmtl.core import repo_root
from musicmtl.study.registry import find_study
from musicmtl.study.settings import resolve

HOW_TO = sorted((repo_root() / "nbs" / "docs" / "how_to").glob("*.md"))


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root() / "nbs" / "docs"))
    import make_docs

    return make_docs


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root() / "nbs" / "docs"))
    import reference

    return reference


def code(text: str, **outputs) -> dict:
    kept = [{"output_type": "display_data", "data": {kind.replace("_", "/"): words}} for kind, words in outputs.items()]
    return {"cell_type": "code", "source": text.splitlines(keepends=True), "metadata": {}, "outputs": kept}


def test_what_nbdev_hides_is_not_shown(pages):
    for text in ("#| hide\nimport os", "#| default_exp core", "#|hide\n#| export\nx = 1", "nbdev_export()"):
        assert pages.shown(code(text)) is None
    assert pages.shown(code("#| export\n#| long\nx = 1  #| no directive\n"))["source"] == "x = 1  #| no directive"
    assert pages.shown(code("#| echo: false\nx"))["metadata"]["tags"] == ["remove-input"]
    assert pages.shown(code("hidden = '# hide'"))["source"] == "hidden = '# hide'"


def test_the_name_of_an_axes_is_not_shown_beside_its_picture(pages):
    drawn = pages.shown(code("draw()", text_plain="<Axes: xlabel='Hz'>", image_png="..."))
    assert [list(output["data"]) for output in drawn["outputs"]] == [["image/png"]]
    assert len(pages.shown(code("draw()", text_plain="<Axes: xlabel='Hz'>"))["outputs"]) == 1
    assert len(pages.shown(code("draw()", text_plain="12 tracks", image_png="..."))["outputs"]) == 2


def test_links_go_where_the_site_has_them(pages):
    place = pages.Places({"nbs/24_balance.ipynb": "24_balance.ipynb", "CONTRIBUTING.md": "contributing.md"})

    def fit(text):
        return place.fit(text, "nbs/papers/agf/model.ipynb", "papers/agf/model.ipynb")

    assert fit("[a](../../24_balance.ipynb#gradnorm)") == "[a](../../24_balance.ipynb#gradnorm)"
    assert fit("[a](../../../CONTRIBUTING.md)") == "[a](../../contributing.md)"
    assert fit("[a](../../../figures/report.html)") == "[a](site:../../figures/report.html)"
    assert fit("[a](../../../settings.ini)").endswith("/blob/main/settings.ini)")
    assert fit("[a](../../viz)").endswith("/tree/main/nbs/viz)")
    picture = "../../_pictures/figures/report/opening.png"
    assert fit("[![b](../../../figures/report/opening.png)](https://x.org)") == f"[![b]({picture})](https://x.org)"
    untouched = "`x[0](y.md)` and\n\n```\n[a](b.md)\n```\n\n[c](#here)"
    assert fit(untouched) == untouched
    assert not place.wrong
    fit("[a](nowhere.md)")
    assert place.wrong == ["nbs/papers/agf/model.ipynb: no file nbs/papers/agf/nowhere.md (nowhere.md)"]


def test_a_section_is_copied_from_where_it_stands(pages):
    text = pages.section("CONTRIBUTING.md", "Add a balancer")
    assert "class RandomWeights(Balancer)" in text and "## Edit a notebook" not in text
    assert pages.section("nbs/21_store.ipynb", "On a cluster").startswith("The same call runs on the workers")
    with pytest.raises(SystemExit, match="CONTRIBUTING.md: no heading “Add a sixth leg”"):
        pages.section("CONTRIBUTING.md", "Add a sixth leg")
    assert pages.lowered("### a\n\n#### b\n\n```\n# c\n```", 2) == "## a\n\n### b\n\n```\n# c\n```"


def test_every_notebook_and_module_has_a_page_and_a_place_in_the_order(pages):
    texts = pages.gathered()
    listed = {name for text in texts.values() for name in re.findall(r"(?:^|<)/([\w/.]+?)>?$", text, re.M)}
    for book in pages.notebooks():
        assert f"{book.page}.ipynb" in texts and book.page in listed
        assert book.module is None or f"api/{book.module}" in listed
    cells = json.loads(texts["24_balance.ipynb"])["cells"]
    assert cells[0]["source"].startswith("# balance\n") and "(api/balance.md)" in cells[0]["source"]
    assert not [cell for cell in cells if re.search(r"^#\|", "".join(cell["source"]), re.M)]


def test_docments_are_a_table(reference):
    def scaled(
        x: str,  # Waveform [B, T], of `sr` Hz
        by: float = 2.0,  # Factor
        plain=None,
    ) -> str:  # [B, T]
        "Scaled."

    assert reference.rows_of(scaled) == [
        ("x", "str", "Waveform [B, T], of `sr` Hz"),
        ("by", "float", "Factor"),
        ("returns", "str", "[B, T]"),
    ]
    lines = ["Scaled."]
    reference.describe(None, "function", "scaled", scaled, None, lines)
    assert "   * - ``by``" in lines and "     - Factor" in lines and lines[0] == "Scaled."
    assert reference.rows_of(lambda x: x) == []


def test_docstrings_are_shown_as_they_are_written(reference):
    assert reference.restructured("|a*b| of `Rivalry`s, x_") == r"\|a\*b\| of \ ``Rivalry``\ s, x\_"


def test_what_is_indented_in_a_docstring_is_code(reference):
    lines = ["Says `this`:", "    x_ = 1", "", ">>> y_", "2", "", "- an item", "  of two lines_"]
    code = ["", "::", "", "        x_ = 1", "", ""], ["", "::", "", "    >>> y_", "    2", "", ""]
    expected = [r"Says \ ``this``\ :", *code[0], *code[1], "- an item", r"  of two lines\_"]
    assert reference.docstring(lines) == expected


def test_what_the_table_says_is_not_said_twice(reference):
    from musicmtl.balance import backward

    assert "Parameters" in backward.__doc__ and "Of `fan_out`, new in each step" in backward.__doc__
    lines = backward.__doc__.splitlines()
    kept = reference.without_tables(lines)
    assert "Of `fan_out`, new in each step" not in " ".join(kept) and "Returns" not in kept and kept[0] == lines[0]
    assert any(line.startswith(">>> shared") for line in kept)


def test_formulas_are_mathml_with_their_numbers(reference):
    shown = reference.formula(r"L = \sum_i w_i L_i \tag{7}", "block")
    assert shown.startswith("<math") and '<span class="equation">(7)</span>' in shown and "tag" not in shown


# --- the how-to pages ------------------------------------------------------------------------------------------------


def own_blocks(file: Path) -> list[tuple[str, str]]:  # Language, text
    return [(language, text) for language, _, text in BLOCK.findall(file.read_text(encoding="utf-8"))]


def commands() -> list[str]:
    "Shell lines of the how-to pages, less those that are copied from notebooks."
    texts = [text for file in HOW_TO for language, text in own_blocks(file) if language == "bash"]
    return [line for text in texts for line in text.splitlines() if line]


def test_commands_for_studies_are_understood(tmp_path):
    run = [shlex.split(line) for line in commands() if line.startswith("python -m musicmtl.runs")]
    assert len(run) >= 4
    for words in run:
        study = find_study(words[3])
        given = {words[k + 1]: words[k + 2] for k, word in enumerate(words) if word == "-p"}
        assert set(given) <= {field.name for field in dataclasses.fields(study.settings)}
        if "--preset" in words:
            given["preset"] = words[words.index("--preset") + 1]
        resolve(study.settings, study.name, given)  # or an error says what is wrong


def test_targets_and_variables_of_make_are_those_of_the_makefile():
    makefile = (repo_root() / "Makefile").read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in commands() if line.startswith("make ")]
    assert lines
    for _, target, *given in lines:
        assert re.search(rf"^{target}:", makefile, re.M)
        assert all(re.search(rf"^{word.partition('=')[0]}\s*\?=", makefile, re.M) for word in given)


def test_what_is_said_of_own_music_is_so(tmp_path):
    "Its Python runs on a folder, and gives what the comments say; its table is one that a folder may hold."
    root = tmp_path / "music"
    write_folder(root, artists=4, songs=4, seconds=1.0)
    page = repo_root() / "nbs" / "docs" / "how_to" / "own_music.md"
    names = {"root": root}
    for language, text in own_blocks(page):
        if language == "python":
            exec(text, names)
    corpus, split = names["corpus"], names["split"]
    assert corpus.labels("artist").counts.sum() == len(corpus)
    albums = [set(corpus.subset(split[part]).table.groupby(["artist", "album"]).groups) for part in ("train", "valid")]
    assert albums[0] and albums[1] and not albums[0] & albums[1]
    (table,) = (text for language, text in own_blocks(page) if language == "text")
    os.remove(root / "tracks.csv")
    (root / "tracks.csv").write_text(table)
    loaded = names["load_corpus"]("folder", root)
    assert list(loaded.table["artist"]) == ["Ada", "Ben"] and loaded.table["tags"][0] == ("solo", "loud")
