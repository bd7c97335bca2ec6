"Measurements of speed: what `make bench` runs, and that nothing of a busy machine is recorded."

import os
import re

import nbformat
import papermill
import pandas as pd
import pytest

from musicmtl.core import ParamsError, RunError, repo_root
from musicmtl.study import NotTestable, bench, claims_of

NOT_OF_SPEED = {"devices", "reliability", "summary"}


def test_every_claim_of_speed_is_measured_by_make_bench():
    notebooks = {file.stem for file in (repo_root() / "nbs" / "bench").glob("*.ipynb")}
    assert set(bench.full_sizes()) == notebooks - NOT_OF_SPEED


@pytest.fixture
def folder(tmp_path):
    "A notebook with two parameters, as those of nbs/bench."
    cell = nbformat.v4.new_code_cell('size = 1  # of it\nout = ""  # folder', metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    "line,why",
    [
        ("one: {sise: 2}", "one has no parameter sise"),
        ("two: {size: 2}", "expected a notebook of .*, found two"),
    ],
)
def test_what_no_notebook_knows_is_refused(folder, line, why):
    (folder / "full.yaml").write_text(line)
    with pytest.raises(ParamsError, match=why):
        bench.full_sizes(folder)


def test_sizes_for_a_gpu_have_a_file_of_their_own(folder):
    (folder / "gpu.yaml").write_text("one: {size: 3}")
    with pytest.raises(ParamsError, match="gpu.yaml: one has no parameter device"):
        bench.full_sizes(folder, "cuda")
    plan = bench.full_sizes(device="cuda")
    assert {"gradnorm", "steps"} <= set(plan) and all(given["device"] == "cuda" for given in plan.values())


def test_a_notebook_without_sizes_gets_none(folder):
    (folder / "full.yaml").write_text("one:")
    assert bench.full_sizes(folder) == {"one": {}}


@pytest.fixture
def executed(monkeypatch, tmp_path):
    "What papermill would have been asked for: notebook, parameters, threads."
    calls = []

    def execute(notebook, to, given, **options):
        calls.append((notebook.stem, given, os.environ["OMP_NUM_THREADS"]))

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    monkeypatch.setattr(bench, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(bench, "_others", lambda *_: 0.0)
    monkeypatch.setattr(bench, "full_sizes", lambda device: {"one": {"threads": "1 2"}, "two": {"size": 3}})
    return calls


def test_the_summary_comes_last_and_each_has_its_threads(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    bench.run_benches(out=tmp_path)
    out = {"out": str(tmp_path)}
    assert executed == [
        ("one", {"threads": "1 2", **out}, "2"),
        ("two", {"size": 3, **out}, "1"),
        ("summary", out, "1"),
    ]
    assert "OMP_NUM_THREADS" not in os.environ and capsys.readouterr().out.count("took") == 3
    del executed[:]
    bench.run_benches(["two"], tmp_path)
    assert [name for name, *_ in executed] == ["two", "summary"]


def test_a_busy_machine_ends_in_a_sentence(executed, monkeypatch, capsys):
    def execute(notebook, to, given, **options):
        busy = "bench: expected a machine with nothing else to do"
        raise papermill.PapermillExecutionError(0, 1, "", "RunError", busy, [])

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert bench.main(["one"]) == 2
    assert capsys.readouterr().err == "bench: expected a machine with nothing else to do\n"


@pytest.mark.parametrize("when,cores", [("before", [0.5]), ("after", [0.0, 0.5])])
def test_nothing_is_recorded_while_other_programs_run(when, cores, monkeypatch):
    monkeypatch.setattr(bench, "busy_cores", iter(cores).__next__)
    monkeypatch.setattr(bench, "_others", lambda *_: 0.0)
    with pytest.raises(RunError, match=f"0.5 cores {when}; nothing was recorded"):
        with bench.quiet():
            pass
    with bench.quiet(False):
        pass


def test_a_recorded_row_is_replaced_and_others_stay(tmp_path):
    times = pd.DataFrame({"ours": [1.0, 1.0], "peer": [2.0, 2.0]})
    rows = [bench.bench_row("a claim", f"{n} clips", times * n, "ours", "peer") for n in (1, 2, 4)]
    bench.record(rows, tmp_path)
    bench.record(bench.grown(rows, [1, 2, 4])[:1], tmp_path)
    table = pd.read_csv(tmp_path / "bench.csv")
    assert list(table.columns) == bench.BENCH_COLUMNS and list(table["size"]) == ["1 clips", "2 clips", "4 clips"]
    assert table.growth.round(6).tolist()[0] == 1 and table.growth.isna().sum() == 2


def test_a_ratio_beyond_the_axis_is_an_arrow_with_its_number():
    import matplotlib.pyplot as plt
    from matplotlib.collections import PathCollection

    times = pd.DataFrame({"ours": [1.0, 1.0, 1.0], "near": [2.0, 2.1, 2.2], "far": [5000.0, 5100.0, 5200.0]})
    rows = [bench.bench_row("a claim", "3 clips", times, "ours", rival, least=2000) for rival in ("near", "far")]
    ax = bench.draw_bench(pd.DataFrame(rows))
    low, high = ax.get_xlim()
    points = [marks.get_offsets() for marks in ax.collections if isinstance(marks, PathCollection)]
    drawn = [x for some in points for x, _ in some]
    assert len(drawn) == 2 and all(low < x < high < 1000 for x in drawn)
    assert {text.get_text() for text in ax.texts} == {"2.1", "5,100"}
    plt.close(ax.figure)


# --- claims of the papers about time -------------------------------------------------------------------------------


@pytest.fixture
def turns():
    "Seconds of two networks in three rounds."
    return pd.DataFrame({"snippets": [1.0, 2.0, 3.0], "baseline": [2.0, 4.0, 4.0]})


@pytest.mark.parametrize(
    "effect, expected",
    [
        (bench.as_ratio, [0.5, 0.5, 0.75]),
        (bench.as_saving, [50.0, 50.0, 25.0]),
        (bench.as_surplus, [-50.0, -50.0, -25.0]),
    ],
)
def test_an_effect_on_time_has_a_value_for_each_round(turns, tmp_path, effect, expected):
    options = {"effect": effect, "size": "3 songs"}
    rows = bench.claim_time_rows("demo", "S9", "2 snippets", turns, "snippets", "baseline", **options)
    assert list(rows[0]) == bench.CLAIM_TIME_COLUMNS and [row["round"] for row in rows] == [0, 1, 2]
    bench.record_claim_times(rows, tmp_path)
    ((key, sample),) = bench.claim_times("demo", "S9", tmp_path).items()
    assert key == ("time", "2 snippets") and sample.values[:, 0].tolist() == expected
    assert (sample.n, sample.n_groups) == (3, 0)


def test_a_claim_measured_again_forgets_what_was_measured_before(turns, tmp_path):
    "All of its places, and no other claim's."
    options = {"ours": "snippets", "peer": "baseline", "effect": bench.as_ratio, "size": "3 songs"}

    def rows(claim, place, n):
        return bench.claim_time_rows("demo", claim, place, turns[:n], **options)

    bench.record_claim_times([*rows("S9", "old", 3), *rows("S9", "", 3), *rows("S3", "", 3)], tmp_path)
    bench.record_claim_times(rows("S9", "", 2), tmp_path)
    assert {key: sample.n for key, sample in bench.claim_times("demo", "S9", tmp_path).items()} == {("time", ""): 2}
    assert bench.claim_times("demo", "S3", tmp_path)["time", ""].n == 3
    for study, claim in (("demo", "S1"), ("another", "S9")):
        with pytest.raises(NotTestable, match="no times on record; `make bench BENCH=claim_times` measures them"):
            bench.claim_times(study, claim, tmp_path)


def test_functions_may_measure_themselves():
    times = bench.in_turns({"one": lambda: 2.0, "two": lambda: 3.0}, 2, measured=True)
    assert times.to_dict("list") == {"one": [2.0, 2.0], "two": [3.0, 3.0]}


def test_the_claims_about_time_are_those_of_the_bench():
    "Each has its margin in claims.yaml, and each pair of the notebook is one of theirs."
    source = (repo_root() / "nbs" / "bench" / "claim_times.ipynb").read_text()
    asked = set(re.findall(r'\\"(agf|lstm_ensemble)\\", \\"([AS]\d+)\\"', source))
    assert asked == {("lstm_ensemble", claim) for claim in ("S3", "S9", "S17", "S19")} | {("agf", "A13")}
    assert all("time" in claims_of(study)[claim]["margins"] for study, claim in asked)
