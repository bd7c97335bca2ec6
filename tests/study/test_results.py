"Tables are merged row by row, and the same rows give the same bytes; pictures go where the report looks."

import os
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from processes import fork
from raters import collect_often

from musicmtl.core import RunError
from musicmtl.study import (
    RESULT_COLUMNS,
    best_rows,
    collect,
    figure_file,
    in_order,
    machine,
    result_table,
    rows_of_run,
    save_figures,
)
from musicmtl.tables import nfc

ROW = {"run": "07", "corpus": "c", "preset": "mini", "protocol": "corrected", "variant": "v", "seed": 0}
SCORE = {**ROW, "metric": "micro_f1", "value": 0.5}


def test_only_what_was_run_again_is_replaced(tmp_path):
    rows = [SCORE, {**SCORE, "metric": "macro_f1", "value": 0.4}, {**SCORE, "variant": "w"}]
    collect("s", rows, tmp_path)
    table = collect("s", [{**SCORE, "value": 0.6}], tmp_path)
    found = set(zip(table.variant, table.metric, table.value, strict=True))
    assert found == {("v", "micro_f1", 0.6), ("w", "micro_f1", 0.5)}


@pytest.mark.parametrize(
    "column, value", [("corpus", "d"), ("preset", "claims"), ("protocol", "published"), ("seed", 1)]
)
def test_rows_of_another_corpus_preset_protocol_or_seed_stay(column, value, tmp_path):
    collect("s", [SCORE], tmp_path)
    assert len(collect("s", [{**SCORE, column: value}], tmp_path)) == 2
    assert len(collect("s", [{**SCORE, "run": "08"}], tmp_path)) == 2  # the run is no part of the key


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.floats(-9, 9)),
    min_size=1,
    max_size=8,
    unique_by=lambda r: r[:2],
)


@settings(max_examples=40)
@given(rows, st.randoms())
def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path_factory, values, random):
    folder = tmp_path_factory.mktemp("collect")
    made = [{**SCORE, "variant": variant, "seed": seed, "value": value} for variant, seed, value in values]
    collect("s", made, folder / "x")
    shuffled = random.sample(made, len(made))
    for part in (shuffled[: len(made) // 2], shuffled[len(made) // 2 :]):
        if part:
            collect("s", part, folder / "y")
    assert (folder / "x" / "s.csv").read_bytes() == (folder / "y" / "s.csv").read_bytes()


def test_a_table_has_all_columns_and_is_what_its_file_says(tmp_path):
    table = collect("s", [{**SCORE, "value": 1 / 3, "unknown": 1}], tmp_path)
    assert list(table) == RESULT_COLUMNS and table.study.eq("s").all() and table.low.isna().all()
    text = (tmp_path / "s.csv").read_bytes()
    assert b"0.3333333" in text and b"0.33333333" not in text and b"\r" not in text
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "s.csv", dtype={"run": str}))
    assert table.run.item() == "07"  # no number


def test_other_tables_have_keys_and_columns_of_their_own(tmp_path):
    columns = ["study", "corpus", "epoch", "loss"]
    rows = [{"corpus": "c", "epoch": epoch, "loss": 1.0} for epoch in range(3)]
    collect("s", rows, tmp_path, name="s_losses", key=["corpus", "epoch"], columns=columns)
    again = [{"corpus": "c", "epoch": 1, "loss": 0.5}]
    table = collect("s", again, tmp_path, name="s_losses", key=["corpus", "epoch"], columns=columns)
    assert table.loss.tolist() == [1.0, 0.5, 1.0] and list(table) == columns
    assert [file.name for file in tmp_path.iterdir()] == ["s_losses.csv"]


NAMES = [
    "NA",
    "None",
    "nan",
    "007",
    "1e3",
    "",
    "a,b",
    'say "x"',
    "two\nlines",
    "a\rb",
    "# no",
    "True",
    "Beyoncé",
    "=1+1",
]
names = st.one_of(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5))


@settings(max_examples=25)
@given(st.lists(names, min_size=1, max_size=4, unique_by=nfc), names)
def test_names_stay_names_and_are_found_again(tmp_path_factory, variants, corpus):
    folder = tmp_path_factory.mktemp("names")
    rows = [{**SCORE, "corpus": corpus, "variant": variant, "metric": variant} for variant in variants]
    first = collect("s", rows, folder)
    before = (folder / "s.csv").read_bytes()
    assert sorted(first.variant.astype(object).fillna("")) == sorted(map(nfc, variants)) and set(
        first.corpus.astype(object).fillna("")
    ) == {nfc(corpus)}
    for row in rows:
        collect("s", [row], folder)
    assert (folder / "s.csv").read_bytes() == before
    pd.testing.assert_frame_equal(result_table(folder / "s.csv"), first)


@pytest.mark.parametrize("name", ["\udce9t\ud800", "a\0b"])
def test_what_text_cannot_hold_is_escaped_and_found_again(name, tmp_path):
    for _ in range(2):
        table = collect("s", [{**SCORE, "variant": name}], tmp_path)
    assert len(table) == 1 and "\\" in table.variant.item()


def test_a_seed_is_the_same_seed_beside_rows_without_one(tmp_path):
    rows = [SCORE, {**SCORE, "variant": "chance", "seed": None}]
    for _ in range(2):
        table = collect("s", rows, tmp_path)
        collect("s", [SCORE], tmp_path)
    assert len(table) == 2


WHOLE = b"study,claim,where,n\na,C1,1,5\nb,C2,2,6\n"


@pytest.mark.parametrize(
    "damaged, words",
    [
        (WHOLE[:-1], "the last line is cut off"),
        (WHOLE[:-4], "line 3: expected 4 cells"),
        (b"", "empty"),
        (b"study,claim\na,C1\n", "column where, n missing"),
        (b"study,claim,where,n,n\na,C1,1,5,5\n", "expected each column once"),
        (WHOLE.replace(b"C2", b"\xe9"), "line 3: expected text in UTF-8"),
        (WHOLE.replace(b"C2", b'"C2'), "line 3: expected a row"),
        (WHOLE.replace(b"C2", b"C\0"), "line 3: expected text"),
        (b"PK\3\4\0\0\0\0", "expected text"),
    ],
)
def test_a_damaged_table_is_refused_and_left_as_it_is(damaged, words, tmp_path):
    file = tmp_path / "claims.csv"
    file.write_bytes(damaged)
    how = {"name": "claims", "key": ["study", "claim"], "columns": ["study", "claim", "where", "n"]}
    with pytest.raises(RunError, match=words):
        collect("c", [{"claim": "C3", "where": 3, "n": 1}], tmp_path, **how)
    assert file.read_bytes() == damaged and [other.name for other in tmp_path.iterdir()] == ["claims.csv"]


def test_columns_of_another_hand_are_kept(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbfclaim,remark,study,n\r\nC1,mine,a,5\r\n")
    table = collect(
        "b", [{"claim": "C1", "n": 6}], tmp_path, name="c", key=["study", "claim"], columns=["study", "claim", "n"]
    )
    assert table.remark.fillna("").tolist() == ["mine", ""] and table.n.tolist() == [5, 6]
    assert list(table) == ["study", "claim", "n", "remark"]


def test_of_studies_that_end_together_none_loses_a_row(tmp_path):
    both = [fork(collect_often, study, tmp_path) for study in ("agf", "pase")]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert result_table(tmp_path / "claims.csv").groupby("study").size().to_dict() == {"agf": 20, "pase": 20}


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(RunError, match="data/s.csv: cannot be locked for writing"):
        collect("s", [SCORE], tmp_path / "data")


def test_this_computer_in_words():
    name, _, cores = machine().rpartition(", ")
    assert name and cores == f"{len(os.sched_getaffinity(0))} cores"


def test_pictures_of_another_corpus_carry_its_name(tmp_path):
    axes = Figure(figsize=(2, 1)).subplots()
    assert save_figures({"b": axes, "a": axes}, tmp_path, "miniature") == ["a", "b"]
    assert save_figures({"a": axes}, tmp_path, "albums") == ["a"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "b.png", "albums_a.png"}
    assert figure_file(tmp_path, "albums", "map.html") == tmp_path / "albums_map.html"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def run_of(preset):
    return SimpleNamespace(name="c"), SimpleNamespace(preset=preset)


TABLE = pd.DataFrame(
    [
        {**SCORE, "preset": preset, "protocol": protocol, "variant": variant, "corpus": corpus}
        for preset, variants in (("mini", "ab"), ("claims", "abc"))
        for variant in variants
        for protocol in ("published", "corrected", "corrected-split")
        for corpus in "cd"
    ]
)


def test_rows_of_a_run():
    own = rows_of_run(TABLE, *run_of("mini"))
    assert set(own.preset) == {"mini"} and set(own.corpus) == {"c"} and set(own.protocol) == {"published", "corrected"}
    everything = rows_of_run(TABLE, *run_of("mini"), ends_only=False)
    assert set(everything.protocol) == {"published", "corrected", "corrected-split"} and len(everything) == 6


@pytest.mark.parametrize(
    "preset, variants, expected, words",
    [
        ("mini", "ab", "mini", ""),
        ("mini", "abc", "claims", " (preset claims)"),
        ("paper", "ab", "claims", " (preset claims)"),
    ],
)
def test_a_figure_takes_the_preset_that_has_most_of_its_variants(preset, variants, expected, words):
    best, note = best_rows(TABLE, *run_of(preset), list(variants))
    assert set(best.preset) == {expected} and set(best.corpus) == {"c"} and set(best.variant) == set(variants)
    assert note == words


def test_a_preset_with_a_question_of_its_own_has_only_its_own_rows():
    table = TABLE.assign(preset=TABLE.preset.replace("mini", "c_longer"))
    best, note = best_rows(table, *run_of("c_longer"), list("abc"))
    assert set(best.preset) == {"c_longer"} and set(best.variant) == set("ab") and note == ""


def test_rows_in_the_order_of_names():
    table = pd.DataFrame({"variant": ["x", "b", "a", "y", "b"], "n": range(5)})
    assert in_order(table, ["a", "b"]).n.tolist() == [2, 1, 4, 0, 3]


def test_numbers_are_sorted_as_numbers_and_names_as_text(tmp_path):
    rows = [{"study": "s", "variant": variant, "epoch": n} for n in (10, 9, 1, "") for variant in ("v10", "v9")]
    collect("s", rows, tmp_path, key=["study", "variant", "epoch"], columns=["study", "variant", "epoch"])
    found = result_table(tmp_path / "s.csv")
    assert found.variant.tolist() == ["v10"] * 4 + ["v9"] * 4
    assert found.epoch.fillna(-1).tolist() == [1, 9, 10, -1] * 2
