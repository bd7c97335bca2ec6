"A verdict follows from margins by a rule; a claim that cannot be tested says why; larger runs are not overruled."

import sys
from types import SimpleNamespace

import musicmtl.papers
import numpy as np
import pandas as pd
import pytest
from raters import DATA, Guess, gain, not_here, scores, write_paper

from musicmtl.core import ParamsError
from musicmtl.study import (
    CLAIM_COLUMNS,
    FALSE_DISCOVERIES,
    MARGIN_COLUMNS,
    Board,
    Sample,
    by_question,
    claim_rows,
    claims_of,
    corrected,
    expected_wrong,
    judge,
    margins_of,
    on_paper,
    rule_of,
    save_claims,
)

TESTS = {"R1": gain, "R2": not_here}


@pytest.fixture(scope="module", autouse=True)
def paper(tmp_path_factory):
    "The rules of the raters."
    folder, path = tmp_path_factory.mktemp("papers"), musicmtl.papers.__path__
    write_paper(folder)
    musicmtl.papers.__path__ = [*path, str(folder)]
    yield
    musicmtl.papers.__path__ = path
    sys.modules.pop("musicmtl.papers.raters", None)


def board_of(labels=("plain", "smart"), seeds=(0, 1, 2), protocol="corrected"):
    jobs = [Guess(label, protocol, seed) for label in labels for seed in seeds]
    readings = [SimpleNamespace(trial=job, predicted=job.train(DATA, None, "/tmp")["predicted"]) for job in jobs]
    return Board(readings, lambda reading: scores(DATA, None, reading), metric="accuracy")


def test_a_rule_is_a_sentence():
    margins = claims_of("raters")["R1"]["margins"]
    assert rule_of(margins) == "accuracy of smart minus accuracy of plain, above 0 points"
    both = {**margins, "small": {"effect": "difference", "unit": "points", "within": 0.5}}
    assert rule_of(both).endswith("above 0 points; difference, within ±0.5 points")


def test_margins_have_the_rules_names_and_places_of_their_own():
    rule, sample = claims_of("raters")["R1"], Sample(np.ones((3, 1)))
    found = margins_of(rule, {("gain", "old"): sample, ("gain", "new"): sample}, {("gain", "new"): 3.0})
    assert [(name, place, margin.paper) for name, place, margin in found][1] == ("gain", "new", 3.0)
    assert found[0][2].name == "gain, old" and np.isnan(found[0][2].paper) and found[0][2].test == {"above": 0}
    with pytest.raises(ParamsError, match="expected margins gain, found loss"):
        margins_of(rule, {"loss": sample})
    with pytest.raises(ParamsError, match="expected margins gain, found "):
        margins_of(rule, {})


def test_a_row_has_its_rule_its_verdict_and_its_margins():
    row = judge("raters", "items", board_of(seeds=range(4)), gain, "R1", "corrected", {"gain": 2.0})
    assert row["verdict"] == "holds" and row["where"] == "§4" and row["unit"] == "points"
    assert (row["trainings"], row["groups"], row["margins"]) == (4, 20, 1) and row["paper"] == 2
    (margin,) = row["margin_rows"]
    assert set(margin) | {"preset", "code"} == set(MARGIN_COLUMNS) and margin["p_for"] == row["p_for"] < 0.025
    assert set(row) - {"margin_rows"} | {"preset", "code", "q"} == set(CLAIM_COLUMNS) and row["low"] > 0
    assert row["resolvable"] > 0 and row["magnitude"] in ("larger", "as large") and row["reason"] == ""


def test_a_claim_on_one_training_is_none():
    row = judge("raters", "items", board_of(seeds=[0]), gain, "R1", "corrected")
    assert row["verdict"] == "one training" and np.isnan(row["p_for"]) and row["low"] < row["effect"] < row["high"]


def test_a_rule_is_tried_on_the_papers_own_numbers():
    (row,) = on_paper("raters", {"R1": lambda: {"gain": 3.0}}).itertuples()
    assert (row.claim, row.margin, row.paper, row.distance, row.why) == ("R1", "gain", 3, 3, "")
    assert on_paper("raters", {"R1": lambda: {"gain": -1.0}}).distance.item() == -1


def test_every_claim_is_asked_under_each_of_its_protocols():
    rows = claim_rows("raters", "items", board_of(), TESTS, both=("R1",))
    assert [(row["claim"], row["protocol"]) for row in rows] == [
        ("R1", "corrected"),
        ("R1", "published"),
        ("R2", "corrected"),
    ]
    held, untrained, impossible = rows
    assert held["verdict"] == "holds" and held["low"] > 0 and held["trainings"] == 3
    assert untrained["reason"] == "needs published smart, not trained in this run"
    assert impossible["reason"] == "no rater was asked twice" and impossible["trainings"] == 0
    assert untrained["verdict"] == impossible["verdict"] == "not testable here"


@pytest.mark.parametrize(
    "preset, verdicts", [("smoke", {"not testable here"}), ("mini", {"holds", "not testable here"})]
)
def test_smoke_lists_effects_and_judges_none(preset, verdicts):
    board = board_of()
    board.settings = SimpleNamespace(preset=preset)
    rows = claim_rows("raters", "items", board, TESTS)
    assert {row["verdict"] for row in rows} == verdicts and rows[0]["low"] > 0 and rows[0]["trainings"] == 3
    assert ("preset smoke" in rows[0]["reason"]) == ("p_for" not in rows[0]) == (preset == "smoke")
    assert rows[1]["reason"] == "no rater was asked twice"


def test_a_corpus_that_leaves_nothing_to_compare_tests_no_claim():
    board = board_of()
    board.data = SimpleNamespace(not_testable="one task left, taste: nobody has smelt anything")
    rows = claim_rows("raters", "items", board, TESTS, both=("R1",))
    assert len(rows) == 3 and {row["verdict"] for row in rows} == {"not testable here"}
    assert {row["reason"] for row in rows} == {board.data.not_testable} and not any("effect" in row for row in rows)


@pytest.mark.parametrize("corpus, judged", [("miniature", True), ("msd", False)])
def test_a_claim_about_time_is_judged_once_whatever_the_corpus(corpus, judged):
    rounds = Sample(np.array([[5.0], [6.0], [5.5]]), timed=True)
    timed = {"R1": lambda board, protocol: {"gain": rounds}, "R2": not_here}
    row = claim_rows("raters", corpus, board_of(), timed)[0]
    assert (row["rounds"] > 0) == judged == ("whatever the corpus" not in row["reason"])


def rows_with(n, effect, board=None):
    "Rows of a run, all on `n` networks with the same effect."
    rows = claim_rows("raters", "items", board or board_of(), TESTS, both=("R1",))
    return [{**row, "trainings": n, "effect": effect} for row in rows]


def test_a_verdict_on_more_networks_stays_until_there_is_one_on_as_many(tmp_path):
    save_claims("raters", rows_with(9, 1.0), tmp_path, "mini")
    table = save_claims("raters", rows_with(2, 5.0), tmp_path, "mini")
    assert (table.trainings == 9).all() and (table.effect == 1).all() and list(table) == CLAIM_COLUMNS
    table = save_claims("raters", rows_with(9, 2.0), tmp_path, "mini")
    assert (table.effect == 2).all() and len(table) == 3


def test_a_larger_preset_weighs_more_than_more_networks(tmp_path):
    save_claims("raters", rows_with(9, 2.0), tmp_path, "mini")
    first = [row for row in rows_with(2, 3.0) if row["claim"] == "R1"]
    save_claims("raters", first, tmp_path, "claims")
    table = save_claims("raters", rows_with(9, 4.0), tmp_path, "mini").set_index("claim")
    assert (table.effect["R1"] == 3).all() and table.effect["R2"] == 4
    assert (table.preset["R1"] == "claims").all() and table.preset["R2"] == "mini"


def test_what_could_not_be_tested_says_nothing_about_what_could(tmp_path):
    save_claims("raters", rows_with(2, 3.0), tmp_path, "mini")
    for trainings, effect in ((0, np.nan), (1, 4.0)):
        table = save_claims("raters", rows_with(trainings, effect), tmp_path, "paper")
        assert (table.effect == 3).all() and set(table.preset) == {"mini"}


def test_a_gate_that_closes_in_a_larger_run_outweighs_one_training(tmp_path):
    save_claims("raters", rows_with(1, 3.0), tmp_path, "mini")
    assert set(save_claims("raters", rows_with(0, np.nan), tmp_path, "claims").preset) == {"claims"}
    assert set(save_claims("raters", rows_with(1, 3.0), tmp_path, "mini").preset) == {"claims"}


def test_another_question_to_a_corpus_has_verdicts_of_its_own(tmp_path):
    "Presets named after a corpus and a question (items_artists) ask something else of the same corpus."
    for preset, trainings, effect in (("items", 3, 3.0), ("items_artists", 9, 4.0), ("items_artists", 9, 5.0)):
        table = save_claims("raters", rows_with(trainings, effect), tmp_path, preset)
    first = table[table.claim == "R1"].groupby("preset").effect.unique().to_dict()
    assert {preset: list(effects) for preset, effects in first.items()} == {"items": [3], "items_artists": [5]}
    margins = pd.read_csv(tmp_path / "margins.csv")
    assert set(margins.preset) == {"items", "items_artists"} and not margins.duplicated().any()
    assert set(by_question(table).corpus) == {"items", "items_artists"}
    assert len(table) == 6 and set(table.corpus) == {"items"}


def test_other_corpora_and_studies_keep_their_verdicts(tmp_path):
    save_claims("raters", rows_with(1, 3.0), tmp_path, "mini")
    other = [{**row, "corpus": "albums"} for row in rows_with(1, 4.0)]
    table = save_claims("raters", other, tmp_path, "mini")
    assert len(table) == 6 and table.groupby("corpus").effect.first().to_dict() == {"albums": 4, "items": 3}
    assert len(pd.read_csv(tmp_path / "claims.csv")) == 6


def test_margins_are_kept_with_the_verdicts_they_belong_to(tmp_path):
    save_claims("raters", rows_with(9, 1.0), tmp_path, "mini")
    before = (tmp_path / "margins.csv").read_bytes()
    few = [{**row, "margin_rows": [{**m, "effect": 5.0} for m in row["margin_rows"]]} for row in rows_with(2, 5.0)]
    save_claims("raters", few, tmp_path, "mini")
    assert (tmp_path / "margins.csv").read_bytes() == before
    more = [{**row, "trainings": 9} for row in few]
    save_claims("raters", more, tmp_path, "mini")
    table = pd.read_csv(tmp_path / "margins.csv")
    assert list(table) == MARGIN_COLUMNS and table.effect.tolist() == [5.0] and table.margin.tolist() == ["gain"]


def test_a_claim_that_is_closed_later_keeps_no_margins(tmp_path):
    save_claims("raters", rows_with(1, 3.0), tmp_path, "mini")
    assert len(pd.read_csv(tmp_path / "margins.csv")) == 1
    closed = [{**row, "trainings": 0, "margins": np.nan, "margin_rows": []} for row in rows_with(0, np.nan)]
    save_claims("raters", closed, tmp_path, "claims")
    assert not (tmp_path / "margins.csv").exists() and len(pd.read_csv(tmp_path / "claims.csv")) == 3
    save_claims("raters", rows_with(2, 3.0), tmp_path, "claims")
    other = [{**row, "corpus": "albums"} for row in closed]
    save_claims("raters", other, tmp_path, "claims")
    assert len(pd.read_csv(tmp_path / "margins.csv")) == 1


def family(*p_for):
    "Claims of one corpus by the probability that they hold."
    p_for = list(p_for)
    return pd.DataFrame(
        {"corpus": "items", "p_for": p_for, "p_against": [1 - p for p in p_for], "verdict": "", "reason": ""}
    )


def test_a_verdict_among_many_has_to_stand_among_them():
    alone, among = corrected(family(0.02)), corrected(family(0.02, *[0.5] * 39))
    assert alone.verdict[0] == "holds" and alone.q[0] == pytest.approx(0.04)
    assert among.verdict[0] == "not resolved" and "among 40 verdicts" in among.reason[0]
    assert corrected(family(0.0001, *[0.5] * 39)).verdict[0] == "holds"
    other = pd.concat([family(0.02), family(*[0.5] * 39).assign(corpus="albums")], ignore_index=True)
    assert corrected(other).verdict[0] == "holds"  # another corpus is another family


@pytest.mark.long
def test_of_claims_at_their_bounds_few_are_judged():
    "A thousand families of twenty claims of which none is true or false: verdicts in at most 5 % of the families."
    rng = np.random.default_rng(0)
    judged = [corrected(family(*rng.random(20))).verdict.isin(["holds", "does not hold"]).any() for _ in range(300)]
    assert np.mean(judged) <= FALSE_DISCOVERIES + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_what_was_not_tested_keeps_its_words(tmp_path):
    rows = [*rows_with(3, 1.0), {**rows_with(1, 1.0)[0], "corpus": "other", "verdict": "one training", "p_for": np.nan}]
    table = save_claims("raters", rows, tmp_path, "mini")
    assert table[table.corpus == "other"].verdict.item() == "one training"
    assert (table[table.claim == "R2"].reason == "no rater was asked twice").all()
    assert expected_wrong(table).to_dict() == {"items": FALSE_DISCOVERIES}
