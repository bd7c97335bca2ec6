"The report: numbers are the tables', nothing points outside, the same files give the same pages, gaps are named."

import html.parser
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from musicmtl import report, viz
from musicmtl.core import ParamsError, RunError
from musicmtl.study import CLAIM_COLUMNS, MARGIN_COLUMNS, RESULT_COLUMNS, VERDICTS, Study, claims_of, find_study
from musicmtl.study import main_studies, published
from musicmtl.study import findings as findings_module
from musicmtl.study.findings import findings, rival_sentences, stale_words, verdict_table
from musicmtl.study.report import said_to_be_stale
from musicmtl.study.results import caption


VALUES = {"single_task": 0.5, "equal": 0.55, "gradnorm_epoch": 0.6, "gradnorm_epoch_alpha_0.15": 0.58}


def score_rows(seeds):
    "(protocol, variant, seed, metric, value, paper_value) of an invented study, as the paper's variants and others."
    for metric in ("micro_f1", "log_loss"):
        for variant, value in VALUES.items():
            printed = 87.99 if (variant, metric) == ("gradnorm_epoch", "micro_f1") else None
            for seed in range(seeds):
                if "alpha" not in variant:
                    yield "published", variant, seed, metric, value + 0.2 + 0.01 * seed, printed
                yield "corrected", variant, seed, metric, value + 0.01 * seed, printed
    yield "published", "majority", 0, "micro_f1", 0.3, None
    yield "corrected", "majority", 0, "micro_f1", 0.25, None
    yield "split", "gradnorm_epoch", 0, "micro_f1", 0.7, None


def scores(study="agf", corpus="miniature", seeds=1):
    columns = ["protocol", "variant", "seed", "metric", "value", "paper_value"]
    table = pd.DataFrame(score_rows(seeds), columns=columns)
    ends = dict(low=table.value - 0.03, high=table.value + 0.03, paper_ref=table.paper_value.map({87.99: "§5"}))
    return table.assign(study=study, run="07", corpus=corpus, preset="mini", code="", **ends)[RESULT_COLUMNS]


def claims():
    columns = "claim protocol verdict effect low high trainings groups resolvable paper needed q magnitude".split()
    none = [np.nan] * 3
    rows = [
        ("A10", "corrected", "holds", 21.4, 15.0, 27.0, 5, 16, 8.0, 24.0, 3, 0.002, "as large"),
        ("A10", "published", "not resolved", 0.2, -3.0, 3.4, 5, 16, 4.5, 24.0, 2, 0.9, "smaller"),
        ("A2", "corrected", "not resolved", -0.5, -2.0, 1.0, 5, 16, 2.1, 1.0, 23, 0.6, ""),
        ("A2", "published", "holds", 2.5, 1.0, 4.0, 5, 16, 2.1, 1.0, 23, 0.02, ""),
        ("A3", "corrected", "not testable here", *none, 0, np.nan, *none, np.nan, ""),
        ("A4", "corrected", "does not hold", -1.0, -2.0, -0.5, 5, 16, 1.1, np.nan, np.nan, 0.01, ""),
        ("A9", "corrected", "one training", 3.0, 1.0, 5.0, 1, 16, *none, np.nan, ""),
    ]
    reasons = {"one training": "one training says nothing of another", "not testable here": "`make claims` runs more"}
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(reason=table.verdict.map(reasons).fillna(""), p_for=table.q / 2, p_against=1 - table.q / 2)
    places = dict(study="agf", where="§4", corpus="miniature", preset="mini", unit="points", margins=2, rounds=0)
    return table.assign(rule="holds if <the interval> is above 0", code="", **places)[CLAIM_COLUMNS]


def margins():
    "The margin that each claim's row shows, and one that is further on the right side."
    deciding = claims().dropna(subset="effect").assign(margin="gain", place="α = 1", test="above", bound=0.25)
    other = deciding.assign(place="α = 2", effect=deciding.effect + 7, low=deciding.low + 7, high=deciding.high + 7)
    return pd.concat([deciding, other]).assign(code="")[MARGIN_COLUMNS]


@pytest.fixture
def figures(tmp_path):
    data = tmp_path / "figures" / "data"
    data.mkdir(parents=True)
    pd.concat([scores(), scores(corpus="albums", seeds=4)]).to_csv(data / "agf.csv", index=False)
    claims().to_csv(data / "claims.csv", index=False)
    margins().to_csv(data / "margins.csv", index=False)
    pd.DataFrame(dict(study=["agf"], epoch=1, task="genre", weight=1.0)).to_csv(data / "agf_weights.csv", index=False)
    pd.DataFrame(dict(metric=["seconds"], value=[123456.0])).to_csv(data / "agf_time.csv", index=False)
    folder = tmp_path / "figures" / "agf"
    folder.mkdir()
    for name in ("weights.png", "step_time.png"):
        Image.new("P", (4, 3)).save(folder / name)
    (folder / "captions.yaml").write_text("weights.png: Loss weights & epochs (the paper's Fig. 4)\n", encoding="utf-8")
    (folder / "map.html").write_text("<html></html>", encoding="utf-8")
    return tmp_path / "figures"


def test_the_tables_of_this_checkout_can_be_read():
    tables = report.read_results()
    assert set(main_studies()) <= set(tables.scores.study)
    assert set(tables.claims.study) == set(claims_of()) <= set(tables.studies)


class Page(html.parser.HTMLParser):
    "Checks nesting and collects references and text."

    def __init__(self, text):
        super().__init__()
        self.stack, self.refs, self.text = [], [], []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.refs += [value for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "br", "img"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


STUDIES = ("agf", "artist_language", "lstm_ensemble", "pase", "tagging")


def written(figures):
    "All pages by their place, as text."
    out = report.write_report(figures / "data")
    files = [out, *sorted((figures / "report").glob("*.html"))]
    return {str(file.relative_to(figures)): file.read_text(encoding="utf-8") for file in files}


def test_pages_are_whole_stable_and_point_nowhere_else(figures):
    assert report.write_report(figures / "data") == figures / "report.html"
    pages = written(figures)
    assert written(figures) == pages
    studies = {f"report/{study}.html" for study in STUDIES}
    assert set(pages) == {"report.html", "report/agf-tables.html", *studies}
    for place, text in pages.items():
        folder = (figures / place).parent
        for link in Page(text).refs:
            if link.startswith("#"):
                assert f'id="{link[1:]}"' in text, (place, link)
                continue
            file = (folder / unquote(link)).resolve()
            assert file.is_file() and figures in file.parents, (place, link)
        undated = re.sub(r"Changed, 20\d\d-\d\d-\d\d:", "", text)  # when a rule was changed, from claims.yaml
        assert str(figures.parent) not in text and not re.search(r"20\d\d-\d\d-\d\d", undated)
        assert not re.search(r"@import|url\(|<link|data:|https?:", text)
        assert text.count("<script") == 1 and "<script>\n// What is shown" in text  # the filter, and nothing else
        assert "123456" not in text and len(text.encode()) < 1.5e6
    assert Page(pages["report/agf.html"]).refs.count("../agf/weights.png") == 1
    assert "step_time" not in pages["report/agf.html"]  # the picture of wall times stays out


def test_pages_can_be_read_without_colours_pictures_or_a_mouse(figures):
    for place, text in written(figures).items():
        assert '<html lang="en">' in text and text.count("<h1") == 1 and text.count("<main>") == 1, place
        assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
        for tag in re.findall("<img [^>]*>", text):
            assert re.search('alt="[^"]+"', tag)
        for tag in re.findall("<svg [^>]*>", text):
            assert 'role="img"' in tag and re.search('aria-label="[^"]*[0-9][^"]*"', tag)
        assert text.count('class="wide"') == text.count('class="wide" tabindex="0" role="region"')
    verdicts = re.findall(
        'class="chip v-[a-z-]+"><b aria-hidden="true">.</b> ([a-z ]+)<', written(figures)["report/agf.html"]
    )
    assert set(verdicts) == {"holds", "does not hold", "not resolved", "one training", "not testable here"}


def test_names_from_outside_stay_text_and_files_being_written_stay_out(figures):
    hostile = '<script>alert(1)</script> $claims & "x"'
    table = scores(corpus=hostile).assign(variant=lambda rows: rows.variant + "<b>", study="agf")
    other = scores(study="../data")  # a folder that is not a study's
    pd.concat([table, other]).to_csv(figures / "data" / "agf.csv", index=False)
    for name in (".weights.x1.tmp.png", ".map.x1.tmp.html"):
        (figures / "agf" / name).write_bytes(b"half")
    (figures / "agf" / 'a "map" & more?.html').write_text("<html></html>", encoding="utf-8")
    (figures / "data" / "picture.png").write_bytes(b"not of a study")
    pages = written(figures)
    assert len(pages) == 7 and not any("data" in place for place in pages)
    for text in pages.values():
        assert text.count("<script") == 1 and "alert(1)</script>" not in text
        assert "<b>, " not in text and "picture.png" not in text
    assert hostile in "".join(Page(pages["report/agf-tables.html"]).text)
    refs = Page(pages["report/agf.html"]).refs
    assert [ref for ref in refs if ref.startswith("../agf/") and ref.endswith("html")] == [
        "../agf/a%20%22map%22%20%26%20more%3F.html",
        "../agf/map.html",
    ]
    assert sum(ref.endswith(".png") for ref in refs) == 1


def test_every_section_is_in_the_bar_and_the_filter_knows_study_corpus_and_verdict(figures):
    pages = written(figures)
    for place, text in pages.items():
        contents = re.search('<nav aria-label="on this page">(.*?)</nav>', text)[1]
        assert re.findall('href="#([a-z-]+)"', contents) == re.findall('<h2 id="([a-z-]+)"', text), place
        assert len(set(re.findall('<h2 id="([a-z-]+)"', text))) == text.count("<h2"), place
        assert '<form class="filter" aria-label="filter" hidden>' in text  # only a script shows it
    counts = re.findall('<tr data-study="([^"]+)" data-corpus="([^"]+)" data-verdict="([^"]*)">', pages["report.html"])
    assert ("Artist group factors", "Miniature") in {pair[:2] for pair in counts}
    assert set("|".join(row[2] for row in counts).split("|")) <= set(VERDICTS)
    study = pages["report/agf.html"]
    assert '<section data-corpus="Miniature"><h3>Miniature</h3>' in study
    row = study[study.index("<b>A2</b>") - 80 : study.index("<b>A2</b>")]
    assert 'data-verdict="not resolved|holds"' in row


def test_on_a_narrow_screen_every_cell_says_what_it_is(figures):
    page = written(figures)["report.html"]
    (table,) = re.findall('<table class="counts">.*?</table>', page, re.S)
    assert table.count('data-label="Corpus"') == table.count('data-label="Preset"') == table.count("<tr data-study")
    assert 'data-label="✓ holds"' in table and 'data-label="Study"' not in table


def test_claims_have_a_row_each_in_natural_order_with_both_protocols_preset_and_trainings(figures):
    page = written(figures)["report/agf.html"]
    claims_part = page.split('<h2 id="what-the-paper-says">')[1].split("<h2")[0]
    rows = re.findall("<tr[^>]*><td><b>(A[0-9]+)</b>.*?</tr>", claims_part)
    assert rows == ["A2", "A4", "A9", "A10", "A3"]  # the last cannot be tested here, and is folded
    row = claims_part[claims_part.index("<b>A2</b>") : claims_part.index("<b>A4</b>")].partition("<tr data-verdict")[0]
    row = "<table><tr><td>" + row[: row.rindex("</tr>")] + "</tr></table>"
    text = " ".join("".join(Page(row).text).split())
    assert "not resolved−0.5 points [−2.0, 1.0]" in text and "holds+2.5 points [1.0, 4.0]" in text
    assert text.count("preset mini, 5 trainings, 16 test groups") == 2
    assert "4 margins and the rule" in text and "above 0.25 points" in text and "(α = 1" not in text
    assert "<code>make claims</code> runs more" in page and "in size: not told apart from the paper's" in page
    assert page.count("<details>") >= 5 and "&lt;the interval&gt;" in page


def test_what_would_change_a_verdict_follows_from_the_tables(figures):
    changes = written(figures)["report/agf.html"].split('<h2 id="what-would-change-our">')[1]
    text = "".join(Page(changes[changes.index("</h2>") + 5 : changes.index("</main>")]).text)
    assert "About 23 trainings instead of 5, if the effect is the paper's." in text
    assert "A second training: one says nothing of another." in text
    assert "every margin on its right side; now the nearest is −1.0 points [−2.0, −0.5]" in text


def test_missing_studies_and_unmatched_numbers_are_named(figures):
    pages = written(figures)
    for study in STUDIES[1:]:
        assert f"make study STUDY={study}" in pages["report.html"]
        assert f"make study STUDY={study}" in pages[f"report/{study}.html"]
    assert "make study STUDY=agf<" not in pages["report.html"]
    tables = pages["report/agf-tables.html"]
    assert "Protocols between published and corrected (2)" in tables  # one per corpus
    left = report.unmatched(scores(), published().query("study == 'agf'"))
    assert "87.99" not in set(left.paper_value) and "91.08" in set(left.paper_value)
    assert ">18</td>" in tables and "18.0" not in tables  # hours of training, as the paper prints them


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    (tmp_path / "data").mkdir()
    page = report.write_report(tmp_path / "data").read_text(encoding="utf-8")
    Page(page)
    assert "No claims judged yet" in page and page.count("no results yet") == 5
    assert "Nothing yet that the tables support" in page
    with pytest.raises(ParamsError, match="no folder"):
        report.write_report(tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="expected a page such as report.html"):
        report.write_report(tmp_path / "data", tmp_path / "report")


def test_a_study_without_published_numbers_is_shown_too(tmp_path):
    (tmp_path / "data").mkdir()
    scores("agf_truth").to_csv(tmp_path / "data" / "agf_truth.csv", index=False)
    assert 'href="report/agf_truth.html"' in report.write_report(tmp_path / "data").read_text(encoding="utf-8")
    assert (tmp_path / "report" / "agf_truth.html").is_file()


def test_comparison_puts_the_right_numbers_side_by_side():
    table = report.comparison_table(scores()).set_index(["metric", "variant"])
    row = table.loc[("micro_f1", "gradnorm_epoch")]
    assert (row.paper, row.ref) == (87.99, "§5")
    assert (row.published, row.corrected, row.difference) == pytest.approx((80, 60, 20))
    assert (row.corrected_low, row.corrected_high) == pytest.approx((57, 63))
    assert (row.published_majority, row.corrected_majority) == pytest.approx((30, 25))
    assert table.loc[("log_loss", "equal")].corrected == pytest.approx(0.55)  # nats stay nats
    alone = table.loc[("micro_f1", "gradnorm_epoch_alpha_0.15")]
    assert pd.isna(alone.published) and alone.corrected == pytest.approx(58)
    assert "majority" not in table.index.get_level_values("variant")
    order = [variant for metric, variant in table.index if metric == "micro_f1"]
    assert order == ["single_task", "equal", "gradnorm_epoch", "gradnorm_epoch_alpha_0.15"]


def test_several_seeds_are_averaged():
    row = report.comparison_table(scores(seeds=4)).set_index(["metric", "variant"]).loc[("micro_f1", "equal")]
    assert row.corrected == pytest.approx(56.5) and row.corrected_n == 4
    assert row.corrected_low < 56.5 < row.corrected_high


def test_sizes_and_times_are_no_scores_and_have_no_difference(figures):
    extra = pd.concat(
        [scores()[:2].assign(metric=metric, value=[17300.0, 17300.0]) for metric in ("parameters", "training_s")]
    )
    own = pd.concat([scores(), extra])
    table = report.comparison_table(own).set_index("metric")
    assert table.loc[["parameters", "training_s"]].difference.isna().all()
    assert table.loc[["micro_f1", "log_loss"]].difference.notna().any()
    assert "17300" not in report.scores_section(own) and "17,300" in report.measures_section(own)
    assert report.measures_section(scores()) == ""


def test_students_t_is_named_on_the_page_of_tables_only(figures):
    pages = written(figures)
    assert [place for place, text in pages.items() if "Student" in text] == ["report/agf-tables.html"]
    assert "4 trainings" in pages["report/agf-tables.html"] and "1 training<" in pages["report/agf-tables.html"]


def test_a_study_is_shown_by_its_own_title_and_names(tmp_path, monkeypatch):
    names = viz.NAMES | viz.Names(
        labels=dict(single_task="Alone", micro_f1="Share of hits"), forms={r"wide_(\d+)": ("Wide, {} units", "wide")}
    )
    study = Study("agf", "A title of its own", settings=object, prepare=scores, names=names)
    monkeypatch.setattr(findings_module, "find_study", lambda name: {"agf": study}[name])
    table = scores().replace({"variant": {"equal": "wide_10", "gradnorm_epoch": "wide_9"}})
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data" / "agf.csv", index=False)
    monkeypatch.setattr("musicmtl.study.report.published", lambda: published("agf"))
    report.write_report(tmp_path / "data")
    page = (tmp_path / "report" / "agf-tables.html").read_text(encoding="utf-8")
    assert page.count("A title of its own") == 3 and "<b>Share of hits</b> [%]" in page  # title, navigation, heading
    order = [page.index(f">{words}</td>") for words in ("Alone", "Wide, 9 units", "Wide, 10 units")]
    assert order == sorted(order)


@pytest.mark.parametrize("fault", [ParamsError("no study"), ImportError("no module"), AttributeError("no study in it")])
def test_a_study_that_cannot_be_found_is_shown_by_plain_names(fault, monkeypatch):
    def find_study(name):
        raise fault

    monkeypatch.setattr(findings_module, "find_study", find_study)
    words = findings_module.words_of("some_study")
    assert words.title == "Some study" and words.names is viz.NAMES


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("agf.csv", lambda table: table.drop(columns="low"), "agf.csv: column low missing"),
        ("claims.csv", lambda table: table.drop(columns="rule"), "claims.csv: column rule missing"),
        (
            "claims.csv",
            lambda table: table.drop(columns=["margins", "trainings", "q"]),
            "claims.csv: column margins, trainings, q missing.*older version.*`make study` writes it anew",
        ),
        ("margins.csv", lambda table: table.drop(columns="bound"), "margins.csv: column bound missing"),
        ("claims.csv", lambda table: table.assign(verdict="perhaps"), "unknown verdict perhaps"),
    ],
)
def test_tables_that_are_not_ours_are_refused(figures, name, change, message):
    file = figures / "data" / name
    change(pd.read_csv(file)).to_csv(file, index=False)
    with pytest.raises(RunError, match=message):
        report.read_results(figures / "data")


def test_run_ids_keep_their_zeros_and_counts_add_up(figures):
    results = report.read_results(figures / "data")
    assert set(results.scores.run) == {"07"}
    assert verdict_table(results.claims).iloc[0, 3:].tolist() == ["1–5", 1, 1, 1, 1, 1]
    assert verdict_table(results.claims, None).iloc[0, 4:].sum() == len(results.claims)


def test_verdicts_of_different_presets_are_counted_apart():
    table = claims().assign(preset=["claims"] * 4 + ["mini"] * 3)
    found = verdict_table(table).set_index("preset")
    assert found.loc["claims"].trainings == "5" and found.loc["claims", "holds"] == 1
    assert found.loc["mini"].trainings == "1–5" and found.loc["mini", "one training"] == 1
    assert verdict_table(table[table.claim == "A3"]).trainings.tolist() == ["–"]


def several(seeds=3, gap=0.3):
    "Scores of trainings that differ by a point, under both protocols."
    return scores(seeds=seeds).assign(
        value=lambda rows: np.where(rows.protocol == "published", 0.5 + gap, 0.5) + 0.01 * rows.seed,
        low=lambda rows: rows.value - 0.03,
        high=lambda rows: rows.value + 0.03,
    )


def found(scores, claims):
    return {finding.kind: finding for finding in findings(scores, claims, margins())}


def test_what_holds_by_algebra_is_a_finding_only_where_nothing_else_holds():
    rows = claims()
    algebra = rows[(rows.claim == "A10") & (rows.protocol == "corrected")]
    algebra = algebra.assign(claim="A9", effect=0.0, low=0.0, high=0.0, q=0.0)
    assert found(several(), pd.concat([rows, algebra]))["holds"].title.startswith("A10 holds")
    others = rows[rows.claim != "A10"]
    assert found(several(), pd.concat([others, algebra]))["holds"].title.startswith("A9 holds")


def test_findings_are_one_of_each_kind_with_the_tables_numbers():
    told = found(several(), claims())
    assert list(told) == ["protocol", "only published", "holds", "does not hold", "unseen"]
    assert "30.0 points" in told["protocol"].title and "The paper prints 88.0 %" in told["protocol"].text
    assert told["only published"].title.startswith("A2 holds as published only")
    assert "Of 2 claims asked under both protocols, 1 holds as published only" in told["only published"].text
    assert told["holds"].title.startswith("A10 holds") and "q = 0.002" in told["holds"].text
    assert "+21.4 points [15.0, 27.0]" in told["holds"].text and "not told apart from the paper's" in told["holds"].text
    assert told["does not hold"].title.startswith("A4 does not hold") and told["does not hold"].line == 0.25
    assert (
        "would need about 23 trainings" in told["unseen"].title
        and "on one training, which says nothing of another: 1;" in told["unseen"].text
    )
    for finding in told.values():
        assert finding.place.startswith("Miniature, preset mini, ") and "training" in finding.place


def test_a_finding_that_its_numbers_do_not_support_is_not_written():
    assert found(several(seeds=1), claims()[:0]) == {}  # one training says nothing of another
    assert found(several(gap=0.0), claims()[:0]) == {}
    assert found(several(seeds=2), claims()[:0]) != {}
    wide = several().assign(low=0.0, high=1.0)
    assert found(wide, claims()[:0]) == {}
    only_one = claims().assign(verdict="one training", q=np.nan)
    assert found(several()[:0], only_one) == {}
    seen = claims().assign(needed=2)  # fewer trainings than there were: the run could have seen it
    assert "would need" not in found(several()[:0], seen)["unseen"].title
    assert "unseen" not in found(several()[:0], seen.assign(unit="nats"))


def test_a_question_of_its_own_is_answered_beside_that_of_the_largest_preset():
    row = {"study": "agf", "corpus": "miniature", "protocol": "corrected", "task": "genre", "metric": "micro_f1"}
    row |= {"network": "equal", "rival": "majority", "value": 50.0, "rival_value": 20.0, "effect": 30.0, "low": 20.0}
    row |= {"high": 40.0, "verdict": "beats", "trainings": 3, "groups": 40}
    rivals = pd.DataFrame([{**row, "preset": preset} for preset in ("claims", "mini", "miniature_long")])
    said = [where for where, _, _ in rival_sentences(rivals)]
    assert said == [
        "Miniature (preset claims), genre: ",
        "Miniature, trained longer (preset miniature_long), genre: ",
    ]


def test_what_was_not_seen_is_of_a_claim_that_no_other_finding_is_about():
    another = claims()[lambda rows: (rows.claim == "A2") & (rows.protocol == "corrected")].assign(claim="A5", needed=30)
    told = found(several(), pd.concat([claims(), another]))
    assert told["only published"].claim == "A2" and told["unseen"].title.startswith("A5 would need about 30 trainings")


def test_what_was_not_seen_is_of_a_claim_that_no_corpus_decides():
    rows = claims()[claims().protocol == "corrected"]
    elsewhere = rows[rows.claim == "A2"].assign(claim="A4", needed=6, corpus="albums")
    assert found(several()[:0], pd.concat([rows, elsewhere]))["unseen"].title.startswith("A2 would need about 23")


def test_what_an_unresolved_claim_could_have_seen_is_told_without_the_papers_effect():
    rows = claims().assign(verdict="not resolved", protocol="corrected", unit="points", paper=np.nan, resolvable=2.0)
    told = found(several()[:0], rows.assign(resolvable=np.arange(len(rows)) + 1.0))["unseen"]
    middle = len(rows) // 2 + 1
    assert (
        f"could not have seen less than {middle}.0 points" in told.title
        and f"{len(rows)} claims in points" in told.text
    )


def test_a_claim_about_time_counts_rounds_and_not_trainings():
    row = next(claims().assign(trainings=0, rounds=7, groups=0).itertuples())
    assert findings_module.counted_runs(row) == "7 timed rounds"
    assert "unseen" not in found(several()[:0], claims().assign(trainings=0, rounds=7, unit="per cent"))


def test_an_effect_that_is_not_the_papers_is_told():
    rows = claims().assign(
        protocol="corrected", magnitude="", trainings=5, unit="points", paper=9.0, effect=3.0, low=1.0, high=5.0
    )
    assert "size" not in found(several()[:0], rows)
    rows.loc[rows.index[0], "magnitude"] = "smaller"
    told = findings_module.size_finding(rows, {})
    assert (
        told.kind == "size"
        and "smaller than the paper's" in told.title
        and "+9.0 points, ours +3.0 points" in told.text
    )
    assert f"Of {len(rows)} effects" in told.text and "1 is told apart" in told.text
    about = (told.study, told.claim)
    assert about == tuple(rows.iloc[0][["study", "claim"]])
    assert findings_module.size_finding(rows, {}, but={about}) is None


def test_a_claim_that_leads_a_finding_does_not_lead_the_one_on_sizes():
    rows = claims().assign(magnitude="smaller", trainings=5, paper=90.0)
    told = found(several()[:0], rows)
    size = told.pop("size")
    assert (size.study, size.claim) not in {(finding.study, finding.claim) for finding in told.values()}


def test_a_gap_has_the_spread_of_both_protocols_trainings_and_of_their_groups():
    (row,) = findings_module.protocol_gaps(several().query("variant == 'equal'")).itertuples()
    of_trainings = 4.302652729749464 * 1.0 / np.sqrt(3)
    half = np.sqrt(2) * np.hypot(of_trainings, 3.0)
    assert (row.low, row.high) == pytest.approx((30 - half, 30 + half))
    table = findings_module.protocol_gaps(several(seeds=1))
    assert len(table) == 0


def test_the_expected_number_of_wrong_verdicts_is_stated(figures):
    assert "Miniature: at most 0.15 of 3" in written(figures)["report.html"]


def test_the_command_line(figures, capsys, tmp_path):
    assert report.main(["--data", str(figures / "data"), "--out", str(tmp_path / "page.html")]) == 0
    assert 'href="page/agf.html"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    study = (tmp_path / "page" / "agf.html").read_text(encoding="utf-8")
    assert 'href="../figures/agf/map.html"' in study and 'href="../page.html"' in study
    assert report.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in (said := capsys.readouterr().err) and "--data runs/STUDY/RUN/figures/data" in said


def test_a_picture_of_another_corpus_has_the_caption_of_miniatures():
    captions = {"micro_f1.png": "Micro F1 by window.", "f1.png": "F1."}
    assert caption(captions, "micro_f1.png", viz.NAMES) == "Micro F1 by window."
    assert (
        caption(captions, "commons_sources_micro_f1.png", viz.NAMES)
        == "Commons, whole sources held out. Micro F1 by window."
    )
    assert caption(captions, "albums_map.png", viz.NAMES) == "Albums map"


def test_a_caption_is_that_of_another_number_of_classes():
    captions = {
        "accuracy_10.png": "Accuracy, 10 classes (fifteen bins of 10).",
        "accuracy_25.png": "Accuracy, 25 classes.",
    }
    assert caption(captions, "accuracy_25.png", viz.NAMES) == "Accuracy, 25 classes."
    assert caption(captions, "accuracy_5.png", viz.NAMES) == "Accuracy, 5 classes (fifteen bins of 10)."
    expected = "Million Song Dataset. Accuracy, 5 classes (fifteen bins of 10)."
    assert caption(captions, "msd_accuracy_5.png", viz.NAMES) == expected


@pytest.mark.long
def test_verdicts_of_other_code_are_said_beside_rows():
    table = pd.DataFrame({"study": ["agf", "agf"], "code": ["a-b", "c-d"]})
    assert (
        stale_words(table, {"agf": "a-b"}) == "Rows that other code than today's has made: Artist group factors 1 of 2."
    )
    assert stale_words(table, {"agf": "c-d"}, "Verdicts").startswith("Verdicts that other code")
    now = report.read_results()
    now.scores["code"] = now.scores.study.map(lambda study: find_study(study).code)
    now.claims["code"] = now.claims.study.map(lambda study: find_study(study).judged)
    assert said_to_be_stale(now) == ""
    now.claims.loc[now.claims.study == "agf", "code"] = "old-old"
    words = said_to_be_stale(now)
    assert words.startswith("Verdicts that") and "Artist group factors" in words and "Tagging" not in words


def test_the_report_reads_and_writes_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_FIGURES", str(tmp_path / "mine"))
    with pytest.raises(ParamsError, match=f"no folder {re.escape(str(tmp_path / 'mine' / 'data'))}"):
        report.write_report()
