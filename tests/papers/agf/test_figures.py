"Which curves the figures of the artist-group-factor study show, and the study as a whole."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from musicmtl.papers.agf import figures
from musicmtl.study import claims_of, find_study


def weights(preset, seeds, jumps):
    "Weights of two tasks in three epochs; `jumps` is how far they move from one epoch to the next."
    rows = []
    for seed, jump in zip(seeds, jumps, strict=True):
        for epoch in range(3):
            for task, sign in (("genre", 1), ("mfcc", -1)):
                weight = 1 + sign * jump * epoch
                rows.append(dict(seed=seed, epoch=epoch + 0.5, task=task, weight=weight, variant="gradnorm_epoch"))
    return pd.DataFrame(rows).assign(preset=preset, corpus="demo", protocol="corrected")


def outcome(table, preset="mini"):
    settings = SimpleNamespace(preset=preset)
    return SimpleNamespace(tables={"weights": table}, settings=settings, data=SimpleNamespace(name="demo"))


def test_the_calmest_and_the_wildest_seed():
    assert figures.calmest_and_wildest(weights("mini", [3, 5, 7], [0.2, 0.05, 0.3])) == (5, 7)


def test_curves_of_many_seeds_come_from_claims_and_say_so():
    table = pd.concat([weights("mini", [0], [0.1]), weights("claims", [0, 1, 2], [0.1, 0.2, 0.3])])
    rows, source = figures.best_known_weights(outcome(table))
    assert source == "preset claims" and set(rows.preset) == {"claims"}
    rows, source = figures.best_known_weights(outcome(table[table.preset == "mini"]))
    assert source == "preset mini" and len(rows) == 6


def test_each_figure_of_weights_counts_its_own_seeds():
    other = weights("claims", [0], [0.1]).assign(variant="gradnorm_first")
    table = pd.concat([weights("claims", [0, 1, 2], [0.1, 0.2, 0.3]), other])
    drawn = figures.weight_figures(outcome(table))
    titles = {name: axes[0].figure.get_suptitle() for name, axes in drawn.items()}
    assert "(3 seeds, preset claims)" in titles["weights_epoch"]
    assert "(1 seed, preset claims)" in titles["weights_initial"]


def test_the_wildest_seed_is_drawn_only_where_it_is_another():
    one = figures.weight_figures(outcome(weights("mini", [0], [0.1])))
    assert set(one) == {"weights_epoch"} and len(one["weights_epoch"]) == 1
    two = figures.weight_figures(outcome(weights("mini", [0, 1], [0.1, 0.3])))
    assert [ax.get_title(loc="left") for ax in two["weights_epoch"]] == ["The calmest seed", "The wildest seed"]
    calm, wild = two["weights_epoch"]
    assert calm.get_ylim() == wild.get_ylim()


def test_the_study_is_found_with_all_its_claims():
    study = find_study("agf")
    assert study is figures.study and set(study.claims) == set(claims_of("agf"))


@pytest.mark.parametrize("n,rare", [(1, True), (5, False)])
def test_songs_that_were_trained_on_have_a_map_of_their_own(monkeypatch, tmp_path, n, rare):
    drawn, texts = [], {}
    monkeypatch.setattr(figures.viz, "tsne", lambda x, d, seed: np.arange(100)[:, None].repeat(d, 1))
    monkeypatch.setattr(figures.viz, "tsne_map_3d", lambda *a, **k: texts.update(k))
    monkeypatch.setattr(figures.viz, "tsne_map", lambda *a, **k: drawn.append((*a, k)))
    codes = np.repeat([0, 1], [100 - n, n])
    labels = SimpleNamespace(classes=("Rock", "Polka"), codes=codes, counts=np.array([100 - n, n]))
    corpus = type("Corpus", (), {"labels": lambda self, column: labels, "__len__": lambda self: 100})()
    corpus.table = pd.DataFrame({"artist": "Ann", "title": [f"Song {i}" for i in range(100)]})
    data = SimpleNamespace(corpus=corpus, target="genre", name="demo")
    one = SimpleNamespace(hidden=np.zeros((100, 4)), part=np.arange(100) % 3)
    board = SimpleNamespace(readings=lambda *a: [one])
    settings = SimpleNamespace(main_protocol="corrected", preset="mini")
    run = SimpleNamespace(data=data, board=board, folder=tmp_path, settings=settings)
    run.study, run.of_corpus = figures.study, "demo"
    assert set(figures.map_figure(run)) == {"tsne", "tsne_held_out"}
    (trained, _, look), (held_out, _, _) = drawn
    assert trained[:, 0].tolist() == list(range(0, 100, 3)) and len(held_out) == 66
    assert ("Polka" in look["rare"]) == rare and texts["clips"] is None  # music of others
    assert list(texts["texts"][:2]) == ["Ann: Song 0 (Rock, trained on)", "Ann: Song 1 (Rock, not trained on)"]
    assert texts["title"].endswith("· Demo (preset mini)")
