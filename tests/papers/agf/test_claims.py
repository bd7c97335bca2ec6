"Claims A1 to A13 on boards whose answer is known."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from musicmtl.core import generator
from musicmtl.metrics import macro_f1, micro_f1
from musicmtl.papers.agf import claims
from musicmtl.papers.agf.experiment import NetworkJob, Reading, scores
from musicmtl.papers.agf.model import SWITCHES, Protocol
from musicmtl.study import (
    Board,
    NotTestable,
    Sample,
    claim_rows,
    claims_of,
    margins_of,
    switch_effects,
)

CLASSES = ("Experimental", "Folk", "Pop")
Y = np.arange(60) % 3


class Corpus:
    table = pd.DataFrame({"track_id": np.arange(60), "artist": [f"artist {n // 6}" for n in range(60)]})

    def __init__(self, name="demo", classes=CLASSES, y=Y):
        self.name, self.classes, self.y = name, classes, y

    def __len__(self):
        return 60

    def has(self, column):
        return True

    def recordings(self):
        return np.arange(60)

    def labels(self, column):
        if column == "artist":
            return SimpleNamespace(codes=np.arange(60) // 6)
        return SimpleNamespace(classes=self.classes, codes=self.y, counts=np.bincount(self.y))


def history(first, noise=0.0, steps=300):
    "Six epochs of two tasks; the first task's weight moves from one value to another."
    rng, epoch, n = generator("history", first, noise), np.repeat(np.arange(6), steps), 6 * steps
    weight = np.interp(np.arange(n), [0, n], first) + noise * rng.normal(size=6)[epoch]
    tasks = {"epoch": np.tile(epoch, 2), "step": np.tile(np.arange(n), 2), "task": np.repeat(["genre", "mfcc"], n)}
    return pd.DataFrame({**tasks, "weight": np.concatenate([weight, 2 - weight])})


def reading(label, seed=0, right=0.5, *, protocol=Protocol.corrected, first=(1, 1), noise=0.0, alpha=0.5):
    "A network that is right on a share of the items, the same items for the same share."
    job = NetworkJob(label, protocol, seed, alpha)
    hit = np.arange(60) < round(60 * right)
    order = generator("order", seed).permutation(60)
    predicted = np.where(hit[order], Y, (Y + 1) % 3)
    p = (0.8 * np.eye(3)[predicted] + 0.2 / 3)[None]
    train = np.repeat([0, 1, 2], [30, 20, 10])
    hidden = generator("hidden", seed).normal(size=(60, 2)) * (1 + Y[:, None])
    said = {"train_y": train, "train_pred": train, "hidden": hidden, "part": np.arange(60) // 30}
    return Reading(job, Y, p, np.arange(60), history=history(first, noise), curves=falling(), **said)


def falling(late=False, network="predictor"):
    "Validation losses of ten epochs that fall at the beginning, or at the end."
    loss = 1 - np.linspace(0, 1, 10) ** (3 if late else 0.05)
    return pd.DataFrame({"network": network, "epoch": range(10), "part": "valid", "loss": loss})


def board_of(readings, target="genre", corpus=None):
    data = SimpleNamespace(corpus=corpus or Corpus(), target=target, name="demo")
    return Board(readings, lambda r, **how: scores(data, None, r, **how), metric="micro_f1", data=data)


def samples(name, readings, protocol="corrected", **board):
    "Margins of a claim, whose names are those of its rule."
    found = claims.CLAIMS[name](board_of(readings, **board), protocol)
    margins_of(claims_of("agf")[name], found)
    return found


def effects(name, readings, **board):
    "Effect of each margin."
    return {key: sample.effect for key, sample in samples(name, readings, **board).items()}


def seeds_of(label, rights, **more):
    return [reading(label, seed, right, **more) for seed, right in enumerate(rights)]


def test_every_claim_has_a_function():
    assert set(claims.CLAIMS) == set(claims_of("agf")) and set(claims.BOTH) < set(claims.CLAIMS)


def test_multitask_against_single_task_is_paired_over_common_trainings():
    readings = [*seeds_of("gradnorm_epoch", (0.6, 0.7, 0.9)), *seeds_of("single_task_two_phase", (0.5, 0.6))]
    gain, loss = (samples("A1", readings)[metric] for metric in ("micro_f1", "log_loss"))
    assert gain.effect == pytest.approx(10) and gain.n == 2 and gain.n_groups == 10
    assert loss.effect == pytest.approx(-0.1 * (np.log(0.8 + 0.2 / 3) - np.log(0.2 / 3)))


def test_the_rival_has_the_predictors_phase_too():
    readings = [reading("gradnorm_epoch", 0, 0.9), reading("single_task", 0, 0.5)]
    with pytest.raises(LookupError, match="needs corrected single_task_two_phase, not trained in this run"):
        samples("A1", readings)


def test_each_alpha_is_a_margin_of_its_own():
    readings = [*seeds_of("equal", (0.8,)), reading("gradnorm_epoch", 0, 0.9)]
    readings += [reading("gradnorm_epoch", 0, right, alpha=alpha) for alpha, right in ((0.0, 0.85), (2.0, 0.7))]
    gains = {"α = 0": 5, "α = 0.5": 10, "α = 2": -10}
    assert effects("A2", readings) == pytest.approx({("gain", place): value for place, value in gains.items()})
    assert effects("A3", readings) == pytest.approx({("ahead", "α = 0"): 5, ("ahead", "α = 2"): 20})


@pytest.mark.parametrize("name", ["A2", "A3"])
def test_one_alpha_is_no_sweep(name):
    with pytest.raises(NotTestable, match="needs α from 0 to 2, and 0.5; found 0.5"):
        samples(name, [reading("gradnorm_epoch", 0, 0.9), reading("equal", 0, 0.9)])


def test_spread_over_trainings_is_compared_with_each_other_choice():
    rights = {"gradnorm_epoch": (0.7, 0.8, 0.9), "gradnorm_log_classes": (0.6, 0.7, 0.8), "gradnorm_ema": (0.6, 0.8, 1)}
    others = [r for label, values in rights.items() for r in seeds_of(label, values)]
    found = samples("A4", [*seeds_of("gradnorm_first", (0.4, 0.6, 0.8)), *others])
    assert set(found) == {("spread", words) for words in claims.OTHER_INITIALS.values()}
    twice = found["spread", "L(0) per epoch"]
    assert twice.effect == pytest.approx(np.log(2)) and twice.n == 3 and twice.n_groups == 0
    assert found["spread", "L(0) a moving average"].effect == pytest.approx(0)
    with pytest.raises(NotTestable, match="needs 3 trainings, found 2"):
        samples("A4", [*seeds_of("gradnorm_first", (0.3, 0.5)), *others])


def test_trainings_that_score_alike_have_no_spread_to_compare():
    steady = [r for label in claims.OTHER_INITIALS for r in seeds_of(label, (0.8, 0.8, 0.8))]
    with pytest.raises(NotTestable, match="exactly alike"):
        samples("A4", [*seeds_of("gradnorm_first", (0.3, 0.5, 0.7)), *steady])


def test_rough_curves_are_found_rough():
    rough = seeds_of("gradnorm_epoch", (0.7,) * 3, noise=0.3)
    calm = [r for label in ("gradnorm_log_classes", "gradnorm_ema") for r in seeds_of(label, (0.6, 0.65, 0.62))]
    jump, roughness = (samples(name, [*rough, *calm])[margin] for name, margin in (("A5", "jump"), ("A7", "roughness")))
    assert jump.effect > 0.1 and roughness.effect > 0.1 and jump.n == roughness.n == 3


def test_smoother_slower_and_lower_are_three_margins_in_their_own_units():
    rough = seeds_of("gradnorm_epoch", (0.7,) * 3, noise=0.3, first=(0.2, 1.8))
    calm = seeds_of("gradnorm_log_classes", (0.6, 0.65, 0.55))
    found = samples("A6", [*rough, *calm])
    assert found["micro_f1"].effect == pytest.approx(10) and found["micro_f1"].n_groups == 10
    assert found["roughness"].effect > 0.1 and found["travel"].effect > 0.1 and found["travel"].n_groups == 0
    opposite = [*seeds_of("gradnorm_log_classes", (0.6,) * 3, noise=0.3), *seeds_of("gradnorm_epoch", (0.7,) * 3)]
    assert effects("A6", opposite)["roughness"] < 0 < effects("A6", opposite)["micro_f1"]


def test_the_genre_is_suppressed_and_overtakes_or_not():
    yes, no = (effects("A8", seeds_of("gradnorm_epoch", (0.7,) * 3, first=first)) for first in ((0.1, 1.6), (1.0, 0.5)))
    assert yes["first"] < 0.4 < no["first"] and yes["last"] > 0 > no["last"]


def test_short_epochs_say_nothing_of_epochs():
    both = [*seeds_of("gradnorm_epoch", (0.7,) * 3), *seeds_of("gradnorm_log_classes", (0.6,) * 3)]
    for reading in both:
        reading.history = history((1, 1), steps=40)
    for claim in ("A5", "A6", "A8"):
        with pytest.raises(NotTestable, match="needs epochs of at least 300 steps, found 40"):
            samples(claim, both)


def predicted_of(one):
    return one.p[0].argmax(1)


def test_seven_windows_are_compared_on_every_metric():
    short, whole = reading("gradnorm_epoch", 0, 0.6), reading("gradnorm_epoch", 1, 0.8)
    short.trial = NetworkJob("gradnorm_epoch", Protocol.corrected, 0, windows=1)
    whole.trial = NetworkJob("gradnorm_epoch", Protocol.corrected, 0)
    macro, micro = (100 * (f1(Y, predicted_of(whole)) - f1(Y, predicted_of(short))) for f1 in (macro_f1, micro_f1))
    loss = -0.2 * (np.log(0.8 + 0.2 / 3) - np.log(0.2 / 3))
    assert macro != pytest.approx(micro)
    expected = {"log_loss": loss, "micro_f1": micro, "macro_f1": macro, "most": macro - micro}
    assert effects("A9", [whole, short]) == pytest.approx(expected)


def test_the_papers_score_is_for_genres_of_its_own_corpus():
    fma = Corpus("fma")
    assert effects("A10", [reading("gradnorm_epoch")], corpus=fma)["micro_f1"] == pytest.approx(50 - 87.99)
    with pytest.raises(NotTestable, match="for genres"):
        samples("A10", [reading("gradnorm_epoch")], target="artist", corpus=fma)
    with pytest.raises(NotTestable, match="of FMA"):
        samples("A10", [reading("gradnorm_epoch")])


def test_classes_by_size_over_all_trainings():
    readings = seeds_of("gradnorm_epoch", (0.6, 0.8))
    valid = [f1_score(Y, predicted_of(one), average=None) for one in readings]
    found = samples("A11", readings)["overfit"]
    expected = [spearmanr([30, 20, 10], 1 - f1).statistic for f1 in valid]
    assert found.values[:, 0] == pytest.approx(expected) and found.n_groups == 10


def test_how_densely_a_class_clusters_does_not_depend_on_its_size():
    one, codes = reading("gradnorm_epoch"), np.repeat([0, 1, 2], [30, 20, 10])
    one.part, board = np.zeros(60, int), board_of([one], corpus=Corpus(y=codes))
    spreads = []
    for draw in range(30):
        one.hidden = generator("same", draw).normal(size=(60, 5))
        sizes, spread = claims.class_spread(board, one)
        spreads.append(spread)
    assert sizes.tolist() == [30, 20, 10] and np.mean(spreads, 0) == pytest.approx([1, 1, 1], abs=0.05)
    one.hidden[codes == 2] /= 10
    assert claims.class_spread(board, one)[1][2] < 0.3
    assert claims.rank_correlation(*claims.class_spread(board, one)) > 0
    assert samples("A11", [reading("gradnorm_epoch", 0, 0.8)])["density"].n_groups == 0
    one.part[codes == 2] = 1
    one.part[np.flatnonzero(codes == 2)[0]] = 0
    assert np.isnan(claims.class_spread(board, one)[1][2])


def test_the_makers_genres_are_not_judged():
    with pytest.raises(NotTestable, match="needs real genres"):
        samples("A12", seeds_of("gradnorm_epoch", (0.6, 0.8)), corpus=Corpus("miniature"))


def test_each_loosely_defined_genre_is_a_margin():
    readings = seeds_of("gradnorm_epoch", (0.6, 0.8))
    valid = np.mean([f1_score(Y, predicted_of(one), average=None) for one in readings], 0)
    expected = {("hard", "Pop"): valid[2] - valid[1], ("hard", "Experimental"): valid[0] - valid[1]}
    found = samples("A12", readings)
    assert {key: sample.effect / 100 for key, sample in found.items()} == pytest.approx(expected)
    assert {sample.n_groups for sample in found.values()} == {10} and {s.n for s in found.values()} == {2}


@pytest.mark.parametrize(
    "y,why", [(np.r_[[2] * 9, Y[9:] % 2], "Pop 9"), (np.r_[Y[:30] % 2, [2] * 6, Y[36:] % 2], "Pop 6")]
)
def test_a_genre_with_few_test_tracks_is_not_judged(y, why):
    with pytest.raises(NotTestable, match=f"fewer than 10 test items.*{why}"):
        samples("A12", [right_of(y)], corpus=Corpus(y=y))


def test_a_genre_of_one_artist_is_not_judged():
    corpus = Corpus(y=np.r_[[2] * 12, Y[12:] % 2])
    corpus.table = corpus.table.assign(artist=["one"] * 12 + corpus.table.artist[12:].tolist())
    corpus.labels = lambda column: (
        SimpleNamespace(codes=np.maximum(np.arange(60) // 6 - 1, 0))
        if column == "artist"
        else SimpleNamespace(classes=CLASSES, codes=corpus.y, counts=np.bincount(corpus.y))
    )
    with pytest.raises(NotTestable, match="Pop are by one artist"):
        samples("A12", [right_of(corpus.y)], corpus=corpus)


def right_of(y):
    "A network that is right on all items."
    one = reading("gradnorm_epoch", 0)
    one.y, one.p = y, (0.8 * np.eye(3)[y] + 0.2 / 3)[None]
    return one


def test_a_corpus_without_the_loose_genres_says_so():
    with pytest.raises(NotTestable, match="needs the genres Pop and Experimental"):
        samples("A12", [reading("gradnorm_epoch", 0, 0.9)], corpus=Corpus(classes=("Rock", "Folk", "Pop")))


def test_sharing_saves_time_and_costs_nothing(monkeypatch):
    times = {("time", ""): Sample([[60.0], [70.0]])}
    monkeypatch.setattr(claims, "claim_times", lambda study, claim: times)
    readings = [reading("equal", 0, 0.8), reading("separate", 0, 0.6)]
    assert effects("A13", readings) == pytest.approx({("time", ""): 65, "micro_f1": 20})


# --- is there anything to compare? ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name,other", [("A1", "single_task_two_phase"), ("A5", "gradnorm_log_classes")])
@pytest.mark.parametrize("weak", [0, 1])
def test_networks_at_chance_are_not_compared(name, other, weak):
    rights = [0.35, 0.9] if weak == 0 else [0.9, 0.35]
    readings = [reading(label, 0, right) for label, right in zip(("gradnorm_epoch", other), rights, strict=True)]
    with pytest.raises(NotTestable, match="three standard errors above chance"):
        samples(name, readings)


def test_a_first_step_that_ends_at_chance_is_what_a4_is_about():
    others = [r for label in claims.OTHER_INITIALS for r in seeds_of(label, (0.7, 0.8, 0.9))]
    found = effects("A4", [*seeds_of("gradnorm_first", (0.1, 0.3, 0.5)), *others])
    assert all(value > 0 for value in found.values())


@pytest.mark.parametrize("network", ["network", "predictor"])
@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_a_network_that_still_falls_at_its_end_is_not_judged(protocol, network):
    one = reading("gradnorm_epoch", 0, 0.8, protocol=getattr(Protocol, protocol))
    one.curves = falling(network=network)
    assert np.isfinite(samples("A11", [one], protocol)["overfit"].effect)
    one.curves = falling(late=True, network=network)
    with pytest.raises(NotTestable, match=f"{network} of GradNorm.*still falling"):
        samples("A11", [one], protocol)


def test_rank_correlation_ignores_what_is_not_known():
    a, b = np.array([1.0, 2, 3, np.nan]), np.array([10.0, 20, 30, 40])
    assert claims.rank_correlation(a, b) == pytest.approx(1) and np.isnan(claims.rank_correlation(a[2:], b[2:]))


def test_what_was_not_trained_is_said():
    rows = pd.DataFrame(claim_rows("agf", "demo", board_of([reading("equal")]), claims.CLAIMS, claims.BOTH))
    assert set(rows.verdict) == {"not testable here"} and len(rows) == 13 + len(claims.BOTH)
    assert rows.reason.str.contains("gradnorm_epoch|separate|gradnorm_first|α|paper").all()


def test_each_mistake_alone_and_all_together():
    protocols = [Protocol.published, *(Protocol.corrected.with_(switch) for switch in SWITCHES)]
    readings = [reading("gradnorm_epoch", 0, 0.5)]
    readings += [reading("gradnorm_epoch", 0, 0.6 + 0.05 * i, protocol=p) for i, p in enumerate(protocols)]
    board = board_of(readings)
    found = switch_effects(board, claims.comparisons(board)).query("metric == 'micro_f1'").set_index("switch").effect
    assert found["All together"] == pytest.approx(10)
    assert found[list(claims.MISTAKES.values())].tolist() == pytest.approx([15, 20, 25, 30, 35, 40], abs=2)


def test_only_the_split_over_windows_is_unpaired():
    paired = {c.switch: c.paired for c in claims.comparisons(None)}
    assert not paired["Split over windows"] and not paired["All together"]
    assert paired["Softmax of γ as target"] and paired["Transposed spectrogram"]


def test_what_albums_on_both_sides_are_worth():
    one, other = reading("gradnorm_epoch", 0, 0.5), reading("gradnorm_epoch", 0, 0.8)
    other.trial = NetworkJob("gradnorm_epoch", Protocol.corrected, 0, by="track")
    board = board_of([one, other])
    found = switch_effects(board, claims.comparisons(board)).query("switch == 'Albums on both sides'")
    assert found.set_index("metric").effect["micro_f1"] == pytest.approx(30)
    assert set(found.metric) == {"log_loss", "micro_f1", "macro_f1"}
