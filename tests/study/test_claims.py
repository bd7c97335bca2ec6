"A verdict follows from an interval by a rule; a claim that cannot be tested says why; larger runs are not overruled."

import sys
from types import SimpleNamespace

import musicmtl.papers
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raters import DATA, Guess, gain, not_here, scores, write_paper

from musicmtl.study import CLAIM_COLUMNS, VERDICTS, Board, claim, claim_rows, claims_of, save_claims, verdict

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


def board_of(labels=("plain", "smart"), seeds=(0, 1), protocol="corrected"):
    jobs = [Guess(label, protocol, seed) for label in labels for seed in seeds]
    readings = [SimpleNamespace(trial=job, predicted=job.train(DATA, None, "/tmp")["predicted"]) for job in jobs]
    return Board(readings, lambda reading: scores(DATA, None, reading), metric="accuracy")


@given(low=st.floats(-5, 5), width=st.floats(0, 5), bound=st.floats(-3, 3))
def test_verdicts_are_symmetric_and_exclusive(low, width, bound):
    high = low + width
    above, below = verdict(low, high, {"above": bound}), verdict(low, high, {"below": bound})
    assert (above == "holds") == (low > bound) and (below == "holds") == (high < bound)
    assert not (above == below == "holds")
    if low < bound < high:
        assert above == below == "not resolved"
    assert verdict(-high, -low, {"below": -bound}) == above
    assert verdict(low, high, {"within": 6 + abs(high)}) == "holds" or low < -6 - abs(high)


@given(low=st.floats(-5, 5), width=st.floats(0, 5), bound=st.floats(0, 3))
def test_a_claim_of_little_change_holds_where_the_whole_interval_is_small(low, width, bound):
    high, found = low + width, verdict(low, low + width, {"within": bound})
    assert (found == "holds") == (-bound <= low and high <= bound)
    assert (found == "does not hold") == ((low > bound or high < -bound) and found != "holds")
    assert verdict(-high, -low, {"within": bound}) == found


def test_a_row_has_its_rule_and_its_verdict():
    row = claim("raters", "R1", "items", "corrected", (3.0, 1.0, 5.0), 2)
    rule = claims_of("raters")["R1"]
    assert row["verdict"] == "holds" and row["where"] == "§4" and row["unit"] == "points" and row["n"] == 2
    assert row["rule"] == f"{rule['effect']}; {rule['rule']}" and set(row) | {"preset"} == set(CLAIM_COLUMNS)
    assert claim("raters", "R1", "items", "corrected", (3.0, -1.0, 5.0), 2)["verdict"] == "not resolved"


def test_a_claim_that_cannot_be_tested_says_why():
    row = claim("raters", "R2", "items", "corrected", reason="one rater was not trained")
    assert row["verdict"] == "not testable here" == VERDICTS[-1]
    assert row["rule"] == "one rater was not trained" and "effect" not in row and row["n"] == 0


def test_every_claim_is_asked_under_each_of_its_protocols():
    rows = claim_rows("raters", "items", board_of(), TESTS, both=("R1",))
    assert [(row["claim"], row["protocol"]) for row in rows] == [
        ("R1", "corrected"),
        ("R1", "published"),
        ("R2", "corrected"),
    ]
    held, untrained, impossible = rows
    assert held["verdict"] == "holds" and held["low"] > 0 and held["n"] == 2
    assert untrained["rule"] == "needs published smart, not trained in this run"
    assert impossible["rule"] == "no rater was asked twice"
    assert untrained["verdict"] == impossible["verdict"] == "not testable here"


@pytest.mark.parametrize(
    "preset, verdicts", [("smoke", {"not testable here"}), ("mini", {"holds", "not testable here"})]
)
def test_smoke_lists_effects_and_judges_none(preset, verdicts):
    board = board_of()
    board.settings = SimpleNamespace(preset=preset)
    rows = claim_rows("raters", "items", board, TESTS)
    assert {row["verdict"] for row in rows} == verdicts and rows[0]["low"] > 0 and rows[0]["n"] == 2
    assert ("preset smoke" in rows[0]["rule"]) == (preset == "smoke")
    assert rows[1]["rule"] == "no rater was asked twice"


def test_a_corpus_that_leaves_nothing_to_compare_tests_no_claim():
    board = board_of()
    board.data = SimpleNamespace(not_testable="one task left, taste: nobody has smelt anything")
    rows = claim_rows("raters", "items", board, TESTS, both=("R1",))
    assert len(rows) == 3 and {row["verdict"] for row in rows} == {"not testable here"}
    assert {row["rule"] for row in rows} == {board.data.not_testable} and not any("effect" in row for row in rows)


def rows_with(n, effect, board=None):
    "Rows of a run, all on `n` networks with the same effect."
    rows = claim_rows("raters", "items", board or board_of(), TESTS, both=("R1",))
    return [{**row, "n": n, "effect": effect} for row in rows]


def test_a_verdict_on_more_networks_stays_until_there_is_one_on_as_many(tmp_path):
    save_claims("raters", rows_with(9, 1.0), tmp_path, "mini")
    table = save_claims("raters", rows_with(2, 5.0), tmp_path, "mini")
    assert (table.n == 9).all() and (table.effect == 1).all() and list(table) == CLAIM_COLUMNS
    table = save_claims("raters", rows_with(9, 2.0), tmp_path, "mini")
    assert (table.effect == 2).all() and len(table) == 3


def test_a_larger_preset_weighs_more_than_more_networks(tmp_path):
    save_claims("raters", rows_with(9, 2.0), tmp_path, "mini")
    first = [row for row in rows_with(1, 3.0) if row["claim"] == "R1"]
    save_claims("raters", first, tmp_path, "claims")
    table = save_claims("raters", rows_with(9, 4.0), tmp_path, "mini").set_index("claim")
    assert (table.effect["R1"] == 3).all() and table.effect["R2"] == 4
    assert (table.preset["R1"] == "claims").all() and table.preset["R2"] == "mini"


def test_what_could_not_be_tested_says_nothing_about_what_could(tmp_path):
    save_claims("raters", rows_with(1, 3.0), tmp_path, "mini")
    table = save_claims("raters", rows_with(0, np.nan), tmp_path, "paper")
    assert not table.effect.isna().any() and set(table.preset) == {"mini"}


def test_other_corpora_and_studies_keep_their_verdicts(tmp_path):
    save_claims("raters", rows_with(1, 3.0), tmp_path, "mini")
    other = [{**row, "corpus": "albums"} for row in rows_with(1, 4.0)]
    table = save_claims("raters", other, tmp_path, "mini")
    assert len(table) == 6 and table.groupby("corpus").effect.first().to_dict() == {"albums": 4, "items": 3}
    assert len(pd.read_csv(tmp_path / "claims.csv")) == 6
