"Tables are merged row by row, and the same rows give the same bytes; pictures go where the report looks."

import os
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from musicmtl.study import RESULT_COLUMNS, best_rows, collect, figure_file, in_order, machine, rows_of_run, save_figures

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


def test_rows_in_the_order_of_names():
    table = pd.DataFrame({"variant": ["x", "b", "a", "y", "b"], "n": range(5)})
    assert in_order(table, ["a", "b"]).n.tolist() == [2, 1, 4, 0, 3]
