"Papers, studies, numbers and claims are found, wherever the papers lie."

import re
import sys
from pathlib import Path

import musicmtl.papers
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raters import write_paper

from musicmtl.core import ParamsError, repo_root
from musicmtl.study import (
    CommonSettings,
    claims_of,
    on_paper,
    find_study,
    main_studies,
    notebooks_folder,
    number,
    paper_folder,
    papers,
    published,
    resolve,
    studies,
)

CLAIMS = {
    "agf": ("A", 13),
    "artist_language": ("L", 4),
    "lstm_ensemble": ("S", 20),
    "pase": ("P", 15),
    "tagging": ("T", 7),
}
NUMBERS = {"agf": 5, "artist_language": 11, "lstm_ensemble": 12, "pase": 7, "tagging": 80}
COLUMNS = ["study", "ref", "variant", "metric", "paper_value"]


@pytest.fixture
def another(tmp_path, monkeypatch):
    "A folder of papers beside the package's own."
    write_paper(tmp_path)
    monkeypatch.setattr(musicmtl.papers, "__path__", [*musicmtl.papers.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("musicmtl.papers.raters", None)


def test_the_five_papers_are_found():
    assert papers() == sorted(CLAIMS) == main_studies()
    assert set(studies()) == {*CLAIMS, "agf_truth"}


@pytest.mark.parametrize("name", studies())
def test_every_study_fills_in_the_blanks(name):
    study = find_study(name)
    assert study.name == name and study.title and issubclass(study.settings, CommonSettings)
    assert (notebooks_folder(name) / f"{name}.ipynb").is_file()
    assert resolve(study.settings, name, {}).preset == "smoke"


@pytest.mark.parametrize("paper", CLAIMS)
def test_every_rule_is_complete_and_every_claim_has_one(paper):
    letter, n = CLAIMS[paper]
    rules = claims_of(paper)
    assert list(rules) == [f"{letter}{i}" for i in range(1, n + 1)]
    for claim, rule in rules.items():
        assert {"claim", "where", "margins"} <= set(rule) <= {"claim", "where", "margins", "changed", "on_paper"}, claim
        assert re.match(r"20\d\d-\d\d-\d\d: .{10}", rule.get("changed", "2026-01-01: not changed")), claim
        for margin in rule["margins"].values():
            (kind,) = set(margin) - {"effect", "unit"}
            assert kind in ("above", "below", "within") and isinstance(margin[kind], int | float), claim
            assert margin["effect"] and margin["unit"], claim
    study = find_study(paper)
    assert set(study.claims) == set(rules) and set(study.both) | set(study.printed) <= set(rules)


@pytest.mark.parametrize("paper", CLAIMS)
def test_every_rule_holds_on_the_papers_own_numbers_or_says_why_not(paper):
    study = find_study(paper)
    found = on_paper(paper, study.printed)
    wrong = found[(found.distance < 0) & (found.why == "")]
    assert wrong.empty, wrong


def test_all_rules_together_are_those_of_each_paper():
    assert claims_of() == {paper: claims_of(paper) for paper in papers()}


def test_the_papers_numbers_are_found():
    table = published()
    assert list(table) == COLUMNS and table.groupby("study").size().to_dict() == NUMBERS
    for paper in papers():
        own = table[table.study == paper].reset_index(drop=True)
        pd.testing.assert_frame_equal(published(paper), own, check_dtype=False)


def test_the_papers_numbers_are_those_of_the_collection(data):
    "The collection that the papers' numbers were taken from, where it lies beside the recordings."
    file = data.parent / "published.csv"
    if not file.is_file():
        pytest.skip(f"no {file.name} beside {data.name}")
    expected = file.read_text(encoding="utf-8").splitlines()
    own = [(paper_folder(paper) / "published.csv").read_text(encoding="utf-8").splitlines() for paper in papers()]
    assert {lines[0] for lines in own} == {expected[0]}
    assert sorted(line for lines in own for line in lines[1:]) == sorted(expected[1:])


def test_a_papers_number_stands_in_no_code():
    "Those with four digits, which nothing else is likely to be."
    printed = {str(value) for value in published().paper_value.dropna()}
    telling = {value for value in printed if re.fullmatch(r"\d\d\.\d\d|0\.\d{3}", value)}
    assert {"87.99", "91.08", "70.45", "39.78", "74.88", "47.26", "48.47", "0.362"} <= telling
    for file in (repo_root() / "musicmtl").rglob("*.py"):
        found = set(re.findall(r"\d+\.\d+", file.read_text(encoding="utf-8")))
        assert not found & telling, file


@given(st.integers(-999, 999), st.sampled_from(["", "~"]), st.sampled_from([("", 1), ("k", 1e3), ("M", 1e6)]))
def test_numbers_as_a_paper_prints_them(tenths, about, unit):
    letter, factor = unit
    assert number(f"{about}{tenths / 10}{letter}") == pytest.approx(tenths / 10 * factor)


@pytest.mark.parametrize("text", ["", "~", "5-6M", "many", "6G", "1e5", None])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ParamsError, match="expected a number such as 64 or ~6M, found"):
        number(text)


def test_a_paper_in_another_folder_is_found_like_our_own(another):
    assert papers() == [*sorted(CLAIMS), "raters"] and main_studies()[-1] == "raters"
    assert paper_folder("raters") == another / "raters"
    assert list(claims_of("raters")) == ["R1", "R2"] and "raters" in claims_of()
    assert published("raters").paper_value.tolist() == ["64"] and len(published()) == sum(NUMBERS.values()) + 1
    assert studies()["raters_truth"] == "elsewhere" and "raters_truth" not in main_studies()


def test_a_paper_without_rules_and_numbers_has_none(another):
    for name in ("claims.yaml", "published.csv"):
        (another / "raters" / name).unlink()
    assert claims_of("raters") == {} and "raters" not in claims_of()
    assert list(published("raters")) == COLUMNS and not len(published("raters"))


@pytest.mark.parametrize("ask", [paper_folder, published, claims_of])
def test_an_unknown_paper_is_refused(ask):
    with pytest.raises(ParamsError, match="no paper 'agv'; there are agf, artist_language"):
        ask("agv")


def test_an_unknown_study_is_refused():
    with pytest.raises(ParamsError, match="no study 'agv'; there are agf, agf_truth"):
        find_study("agv")


def test_notebooks_are_looked_for_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_PAPERS", str(tmp_path))
    with pytest.raises(ParamsError, match=f"expected a notebook raters.ipynb in .*, {re.escape(str(tmp_path))}"):
        notebooks_folder("raters")
    (tmp_path / "studies").mkdir()
    Path(tmp_path / "studies" / "raters.ipynb").touch()
    assert notebooks_folder("raters") == tmp_path / "studies"
    assert notebooks_folder("agf") == repo_root() / "nbs" / "studies"
