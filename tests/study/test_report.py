"The report: numbers are the tables', nothing points outside, the same files give the same page, and missing things are named."

import html.parser
import re

import pandas as pd
import pytest
from PIL import Image

from musicmtl import report
from musicmtl.study.registry import published
from musicmtl.core import ParamsError, RunError


def scores(study="agf", corpus="miniature", seeds=1):
    values = {"single_task": 0.5, "equal": 0.55, "gradnorm_epoch": 0.6, "gradnorm_epoch_alpha_0.15": 0.58}
    rows = [
        (
            p,
            v,
            s,
            m,
            x + 0.2 * (p == "published") + 0.01 * s,
            87.99 if (v, m) == ("gradnorm_epoch", "micro_f1") else None,
        )
        for m in ("micro_f1", "log_loss")
        for p in ("published", "corrected")
        for v, x in values.items()
        for s in range(seeds)
        if not (p == "published" and "alpha" in v)
    ]
    rows += [
        (p, "majority", 0, "micro_f1", {"published": 0.3, "corrected": 0.25}[p], None)
        for p in ("published", "corrected")
    ]
    rows += [("split", "gradnorm_epoch", 0, "micro_f1", 0.7, None)]
    df = pd.DataFrame(rows, columns=["protocol", "variant", "seed", "metric", "value", "paper_value"])
    return df.assign(
        study=study,
        run="07",
        corpus=corpus,
        preset="mini",
        low=df.value - 0.03,
        high=df.value + 0.03,
        paper_ref=df.paper_value.map({87.99: "§5"}),
    )[report.RESULTS]


def claims():
    rows = [
        ("A10", 21.4, 15.0, 27.0, "points", "holds"),
        ("A2", -0.5, -2.0, 1.0, "points", "not resolved"),
        ("A3", None, None, None, "points", "not testable here"),
        ("A4", -1.0, -2.0, -0.5, "points", "does not hold"),
    ]
    df = pd.DataFrame(rows, columns=["claim", "effect", "low", "high", "unit", "verdict"])
    df = df.assign(
        study="agf",
        where="§4",
        corpus="miniature",
        protocol="corrected",
        n=5,
        rule="holds if <the interval> is above 0",
    )
    return df[report.CLAIMS]


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
    r = report.read_results()
    assert {"agf", "artist_language", "lstm_ensemble", "pase", "tagging"} <= set(r.scores.study) and set(
        r.claims.study
    ) <= set(r.studies)


class Page(html.parser.HTMLParser):
    "Checks nesting and collects references and text."

    def __init__(self, text):
        super().__init__()
        self.stack, self.refs, self.text = [], [], []
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.refs += [v for k, v in attrs if k in ("href", "src")]
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
    outside = [r for r in page.refs if not r.startswith(("#", "data:image/png;base64,"))]
    assert outside == ["agf/map.html"]
    assert str(figures.parent) not in first.decode() and not re.search(r"20\d\d-\d\d-\d\d", first.decode())
    assert not re.search(r"@import|url\(|<script|<link", first.decode())
    assert sum(r.startswith("data:") for r in page.refs) == 1  # the picture of wall times stays out
    assert "123456" not in first.decode()


def test_claims_come_first_in_natural_order_and_rules_are_escaped(figures):
    page = report.write_report(figures / "data").read_text(encoding="utf-8")
    at = [page.index(f"<b>{c}</b>") for c in ("A2", "A3", "A4", "A10")]
    assert at == sorted(at) and page.index('id="claims"') < at[0] < page.index('id="agf"')
    assert "&lt;the interval&gt;" in page and "21.400 points" in page and "−2.000 to 1.000" in page
    assert page.count('class="chip"') == 4 + 4  # heads of the counts, one a claim


def test_missing_studies_and_unmatched_numbers_are_named(figures):
    page = report.write_report(figures / "data").read_text(encoding="utf-8")
    for s in ("artist_language", "lstm_ensemble", "pase", "tagging"):
        assert f"make study STUDY={s}" in page
    assert (
        "make study STUDY=agf<" not in page and "Protocols between published and corrected (2)" in page
    )  # one a corpus
    left = report.unmatched(scores(), published().query("study == 'agf'"))
    assert 87.99 not in set(left.paper_value) and 91.08 in set(left.paper_value)


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
    t = report.comparison_table(scores()).set_index(["metric", "variant"])
    row = t.loc[("micro_f1", "gradnorm_epoch")]
    assert (row.paper, row.ref) == (87.99, "§5")
    assert (row.published, row.corrected, row.difference) == pytest.approx((80, 60, 20))
    assert (row.corrected_low, row.corrected_high) == pytest.approx((57, 63))
    assert (row.published_majority, row.corrected_majority) == pytest.approx((30, 25))
    assert t.loc[("log_loss", "equal")].corrected == pytest.approx(0.55)  # nats stay nats
    alone = t.loc[("micro_f1", "gradnorm_epoch_alpha_0.15")]
    assert pd.isna(alone.published) and alone.corrected == pytest.approx(58)
    assert "majority" not in t.index.get_level_values("variant")
    order = [v for m, v in t.index if m == "micro_f1"]
    assert order == ["single_task", "equal", "gradnorm_epoch", "gradnorm_epoch_alpha_0.15"]


def test_several_seeds_are_averaged():
    row = report.comparison_table(scores(seeds=4)).set_index(["metric", "variant"]).loc[("micro_f1", "equal")]
    assert (
        row.corrected == pytest.approx(56.5) and row.corrected_n == 4 and row.corrected_low < 56.5 < row.corrected_high
    )


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("agf.csv", lambda d: d.drop(columns="low"), "agf.csv: column low missing"),
        ("claims.csv", lambda d: d.drop(columns="rule"), "claims.csv: column rule missing"),
        ("claims.csv", lambda d: d.assign(verdict="perhaps"), "unknown verdict perhaps"),
    ],
)
def test_tables_that_are_not_ours_are_refused(figures, name, change, message):
    f = figures / "data" / name
    change(pd.read_csv(f)).to_csv(f, index=False)
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
