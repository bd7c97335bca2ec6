"The report: numbers are the tables', nothing points outside, the same files give the same page, gaps are named."

import html.parser
import re

import pandas as pd
import pytest
from PIL import Image

from musicmtl import report, viz
from musicmtl.core import ParamsError, RunError
from musicmtl.study import CLAIM_COLUMNS, RESULT_COLUMNS, Study, claims_of, main_studies, published


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
    return table.assign(study=study, run="07", corpus=corpus, preset="mini", **ends)[RESULT_COLUMNS]


def claims():
    rows = [
        ("A10", 21.4, 15.0, 27.0, "points", "holds"),
        ("A2", -0.5, -2.0, 1.0, "points", "not resolved"),
        ("A3", None, None, None, "points", "not testable here"),
        ("A4", -1.0, -2.0, -0.5, "points", "does not hold"),
    ]
    table = pd.DataFrame(rows, columns=["claim", "effect", "low", "high", "unit", "verdict"])
    places = dict(study="agf", where="§4", corpus="miniature", protocol="corrected", preset="mini", n=5)
    return table.assign(rule="holds if <the interval> is above 0", **places)[CLAIM_COLUMNS]


@pytest.fixture
def figures(tmp_path):
    data = tmp_path / "figures" / "data"
    data.mkdir(parents=True)
    pd.concat([scores(), scores(corpus="albums", seeds=4)]).to_csv(data / "agf.csv", index=False)
    claims().to_csv(data / "claims.csv", index=False)
    pd.DataFrame(dict(study=["agf"], epoch=1, task="genre", weight=1.0)).to_csv(data / "agf_weights.csv", index=False)
    pd.DataFrame(dict(metric=["seconds"], value=[123456.0])).to_csv(data / "agf_time.csv", index=False)
    folder = tmp_path / "figures" / "agf"
    folder.mkdir()
    for name in ("weights.png", "step_time.png"):
        Image.new("P", (4, 3)).save(folder / name)
    (folder / "captions.yaml").write_text("weights.png: Loss weights & epochs\n", encoding="utf-8")
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


def test_page_is_whole_stable_and_points_nowhere_else(figures):
    out = report.write_report(figures / "data")
    assert out == figures / "report.html"
    first = out.read_bytes()
    assert report.write_report(figures / "data").read_bytes() == first
    page = Page(first.decode())
    outside = [ref for ref in page.refs if not ref.startswith(("#", "data:image/png;base64,"))]
    assert outside == ["agf/map.html"]
    assert str(figures.parent) not in first.decode() and not re.search(r"20\d\d-\d\d-\d\d", first.decode())
    assert not re.search(r"@import|url\(|<script|<link", first.decode())
    assert sum(ref.startswith("data:") for ref in page.refs) == 1  # the picture of wall times stays out
    assert "123456" not in first.decode()


def test_names_from_outside_stay_text_and_files_being_written_stay_out(figures):
    hostile = '<script>alert(1)</script> $claims & "x"'
    table = scores(corpus=hostile).assign(variant=lambda rows: rows.variant + "<b>", study="agf")
    other = scores(study="../data")  # a folder that is not a study's
    pd.concat([table, other]).to_csv(figures / "data" / "agf.csv", index=False)
    for name in (".weights.x1.tmp.png", ".map.x1.tmp.html"):
        (figures / "agf" / name).write_bytes(b"half")
    (figures / "agf" / 'a "map" & more?.html').write_text("<html></html>", encoding="utf-8")
    (figures / "data" / "picture.png").write_bytes(b"not of a study")
    text = report.write_report(figures / "data").read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "<b>, " not in text
    assert hostile in "".join(page.text)
    outside = [ref for ref in page.refs if not ref.startswith(("#", "data:image/png;base64,"))]
    assert outside == ["agf/a%20%22map%22%20%26%20more%3F.html", "agf/map.html"]
    assert sum(ref.startswith("data:") for ref in page.refs) == 1


def test_claims_come_first_in_natural_order_and_rules_are_escaped(figures):
    page = report.write_report(figures / "data").read_text(encoding="utf-8")
    places = [page.index(f"<b>{claim}</b>") for claim in ("A2", "A3", "A4", "A10")]
    assert places == sorted(places) and page.index('id="claims"') < places[0] < page.index('id="agf"')
    assert "&lt;the interval&gt;" in page and "21.400 points" in page and "−2.000 to 1.000" in page
    assert page.count('class="chip"') == 4 + 4  # heads of the counts, one per claim


def test_missing_studies_and_unmatched_numbers_are_named(figures):
    page = report.write_report(figures / "data").read_text(encoding="utf-8")
    for study in ("artist_language", "lstm_ensemble", "pase", "tagging"):
        assert f"make study STUDY={study}" in page
    assert "make study STUDY=agf<" not in page
    assert "Protocols between published and corrected (2)" in page  # one per corpus
    left = report.unmatched(scores(), published().query("study == 'agf'"))
    assert "87.99" not in set(left.paper_value) and "91.08" in set(left.paper_value)
    assert "<td>18</td>" in page and "18.0" not in page  # hours of training, as the paper prints them


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    (tmp_path / "data").mkdir()
    page = report.write_report(tmp_path / "data").read_text(encoding="utf-8")
    Page(page)
    assert "No claims judged yet" in page and page.count("No results yet") == 5
    with pytest.raises(ParamsError, match="no folder"):
        report.write_report(tmp_path / "nowhere")


def test_a_study_without_published_numbers_is_shown_too(tmp_path):
    (tmp_path / "data").mkdir()
    scores("agf_truth").to_csv(tmp_path / "data" / "agf_truth.csv", index=False)
    assert 'id="agf_truth"' in report.write_report(tmp_path / "data").read_text(encoding="utf-8")


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


def test_a_study_is_shown_by_its_own_title_and_names(tmp_path, monkeypatch):
    names = viz.NAMES | viz.Names(
        labels=dict(single_task="Alone", micro_f1="Share of hits"), forms={r"wide_(\d+)": ("Wide, {} units", "wide")}
    )
    study = Study("agf", "A title of its own", settings=object, prepare=scores, names=names)
    monkeypatch.setattr("musicmtl.study.report.find_study", lambda name: {"agf": study}[name])
    table = scores().replace({"variant": {"equal": "wide_10", "gradnorm_epoch": "wide_9"}})
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data" / "agf.csv", index=False)
    monkeypatch.setattr("musicmtl.study.report.published", lambda: published("agf"))
    page = report.write_report(tmp_path / "data").read_text(encoding="utf-8")
    assert page.count("A title of its own") == 2 and "<b>Share of hits</b> [%]" in page  # navigation and heading
    order = [page.index(f"<td>{words}</td>") for words in ("Alone", "Wide, 9 units", "Wide, 10 units")]
    assert order == sorted(order)


@pytest.mark.parametrize("fault", [ParamsError("no study"), ImportError("no module"), AttributeError("no study in it")])
def test_a_study_that_cannot_be_found_is_shown_by_plain_names(fault, monkeypatch):
    def find_study(name):
        raise fault

    monkeypatch.setattr("musicmtl.study.report.find_study", find_study)
    words = report.words_of("some_study")
    assert words.title == "Some study" and words.names is viz.NAMES


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("agf.csv", lambda table: table.drop(columns="low"), "agf.csv: column low missing"),
        ("claims.csv", lambda table: table.drop(columns="rule"), "claims.csv: column rule missing"),
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
    assert report.verdict_counts(results.claims).loc["agf"].tolist() == [1, 1, 1, 1]


def test_the_command_line(figures, capsys, tmp_path):
    assert report.main(["--data", str(figures / "data"), "--out", str(tmp_path / "page.html")]) == 0
    assert 'href="figures/agf/map.html"' in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert report.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
