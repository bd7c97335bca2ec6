"""Jobs side by side, draws that know what belongs together, and claims that say what they lack."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import RunError, generator
from musicmtl.study.experiment import (
    DRAWS,
    Board,
    claim_rows,
    draws,
    history_arrays,
    interval,
    over_seeds,
    read_history,
    resampled,
    run_jobs,
    save_claims,
    save_times,
    shuffled,
)
from musicmtl.study.runs import claims_of, locked


@dataclass(frozen=True)
class Job:
    label: str
    seed: int = 0
    protocol: str = "corrected"


def threads(job):
    return torch.get_num_threads(), job.label


def test_jobs_come_back_in_order_each_on_one_core(tmp_path):
    before = torch.get_num_threads()
    todo = [Job(n) for n in "abcde"]
    for n_jobs in (1, 2):
        assert run_jobs(threads, todo, tmp_path, n_jobs) == [(1, n) for n in "abcde"]
    assert torch.get_num_threads() == before


def test_a_folder_in_use_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="in use"):
        run_jobs(threads, [Job("a")], tmp_path, 1)


@given(n=st.integers(1, 40), seed=st.integers(0, 5))
def test_draws_are_bootstrap_samples(n, seed):
    w = draws(n, seed)
    assert w.shape == (1 + DRAWS, n) and (w[0] == 1).all() and (w.sum(1) == n).all() and w.min() >= 0
    assert (draws(n, seed) == w).all()


def test_intervals_cover_as_often_as_they_say():
    "Means of 40 normal numbers, 200 times: the 95 % interval holds the truth in about 95 % of them."
    w, covered = draws(40, 0) / 40, 0
    for t in range(200):
        _, low, high = interval(w @ generator("coverage", t).normal(size=40))
        covered += low <= 0 <= high
    assert (
        178 <= covered <= 199
    )  # 95 % of 200, four standard errors to each side; the percentile interval is a little narrow


def test_over_seeds_pairs_variants():
    "Two variants that differ by a constant for every seed differ by it in every draw."
    a = generator("seeds").normal(size=(4, 1 + DRAWS))
    np.testing.assert_allclose(over_seeds(a + 0.3) - over_seeds(a), 0.3)
    assert over_seeds(a)[0] == pytest.approx(a[:, 0].mean())
    assert over_seeds(a[:1]) is not None and (over_seeds(a[:1]) == a[0]).all()


def test_shuffled_keeps_the_sample_and_the_interval():
    a = generator("shuffle").normal(size=1 + DRAWS)
    assert interval(shuffled(a)) == interval(a) and abs(np.corrcoef(shuffled(a)[1:], a[1:])[0, 1]) < 0.2


def test_resampled_statistic_of_pairs():
    x = np.arange(6.0)
    d = resampled(lambda a, b: (a - b).mean(), x + 2, x)
    np.testing.assert_allclose(d, 2)


def test_history_survives_the_file(tmp_path):
    h = pd.DataFrame(dict(epoch=[0, 1], step=[0, 1], task=["genre", "ä"], loss=[0.5, 0.25]))
    np.savez(tmp_path / "r.npz", **history_arrays(h))
    with np.load(tmp_path / "r.npz", allow_pickle=False) as z:
        pd.testing.assert_frame_equal(read_history(z), h)


def results(n=2):
    return [
        SimpleNamespace(job=Job(v, s), value=0.5 + 0.1 * (v == "b") + 0.01 * s, seconds_per_step=0.1)
        for v in "ab"
        for s in range(n)
    ]


def test_board_finds_what_was_trained_and_computes_it_once():
    asked = []

    def score(r, by="window"):
        asked.append(by)
        return {"micro_f1": np.full(1 + DRAWS, r.value)}

    b = Board(results(), score, metric="micro_f1")
    assert (
        ("corrected", "a") in b
        and ("published", "a") not in b
        and b.seeds(("corrected", "a"), ("corrected", "b")) == [0, 1]
    )
    assert b.scores("b")[0] == pytest.approx(0.605) and b.scores("b", seeds=[1])[0] == pytest.approx(0.61)
    assert (b.scores("b") - b.scores("a"))[1:] == pytest.approx(0.1)
    b.scores("b", by="track")
    assert asked.count("window") == 4 and asked.count("track") == 2
    with pytest.raises(KeyError):
        b.scores("c")


def test_claims_say_what_they_lack_and_rest_on_the_most_runs(tmp_path):
    b = Board(results(), lambda r: {"micro_f1": np.full(1 + DRAWS, r.value)}, metric="micro_f1")
    ids = list(claims_of("agf"))

    def lacks(b, p):
        raise LookupError("no such genre")

    claims = {i: (lambda b, p: (100 * (b.scores("b", p) - b.scores("a", p)), 2)) for i in ids} | {ids[1]: lacks}
    rows = claim_rows("agf", "here", b, claims, both=ids[:1])
    assert len(rows) == len(ids) + 1
    by = {(r["claim"], r["protocol"]): r for r in rows}
    assert by[ids[0], "corrected"]["effect"] == pytest.approx(10)
    assert by[ids[0], "published"]["rule"] == "needs published b, not trained in this run"
    assert (
        by[ids[1], "corrected"]["rule"] == "no such genre" and by[ids[1], "corrected"]["verdict"] == "not testable here"
    )
    save_claims("agf", [{**r, "n": 9, "effect": 1.0} for r in rows], tmp_path, "mini")
    t = save_claims("agf", rows, tmp_path, "mini")
    assert (t.n == 9).all() and (t.effect == 1).all()
    t = save_claims("agf", [{**r, "n": 9, "effect": 2.0} for r in rows], tmp_path, "mini")
    assert (t.effect == 2).all() and len(t) == len(rows)
    t = save_claims(
        "agf", [{**r, "n": 1, "effect": 3.0} for r in rows if r["claim"] != ids[1]], tmp_path, "claims"
    )  # larger, if with fewer seeds
    t = save_claims("agf", [{**r, "n": 9, "effect": 4.0} for r in rows], tmp_path, "mini")
    assert (
        t[t.claim != ids[1]].effect.eq(3).all()
        and t[t.claim == ids[1]].effect.eq(4).all()
        and set(t.preset) == {"mini", "claims"}
    )
    t = save_claims(
        "agf", [{**r, "n": 0, "effect": np.nan} for r in rows], tmp_path, "paper"
    )  # what could not be asked there says nothing
    assert not t.effect.isna().any()


def test_times_stand_with_the_machine_and_apart_from_results(tmp_path):
    t = save_times("agf", dict(run="r", corpus="here", preset="mini"), results(1), tmp_path)
    assert (
        (tmp_path / "agf_time.csv").exists() and t.machine.str.contains("core").all() and set(t.variant) == {"a", "b"}
    )
