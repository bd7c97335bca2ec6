"The `tagatune` view: what is said of a clip follows from what is heard in it."

import numpy as np
import pytest
from hearing import linear_model, statistics

from musicmtl.core import ParamsError
from musicmtl.magnatagatune import SPLITS, TAGS, by_folder, parts_by_folder, tag_matrix, track_numbers
from musicmtl.miniature import SR, VIEWS, Size, TagatuneSize, miniature, render_track, score, world
from musicmtl.miniature.tagatune import (
    AGREE,
    FACTS,
    LISTENERS,
    RECIPES,
    TAGATUNE_SIZES,
    WORDS,
    _cut,
    _whole,
    clip_notes,
    facts,
    tags_given,
)
from musicmtl.miniature.world import size_of


@pytest.fixture(scope="module")
def mini():
    return world("mini", view="tagatune")


# The words ----------------------------------------------------------------------------------------------------------


def test_every_tag_is_a_word_for_a_fact():
    assert tuple(WORDS) == TAGS and {fact for fact, _ in WORDS.values()} == set(FACTS)
    assert all(0 < rate < 1 for _, rate in WORDS.values())


def test_what_is_not_heard_is_not_said(mini):
    y, true = tags_given(mini, 0), facts(mini.tracks)
    for column, (tag, (fact, _)) in enumerate(WORDS.items()):
        assert not y[true[fact].to_numpy() == 0, column].any(), tag
    assert ((true >= 0) & (true <= 1)).all().all()


@pytest.mark.parametrize(
    "fact, below, there, above",
    [
        ("slow", {"tempo_bpm": 60}, {"tempo_bpm": 84}, {"tempo_bpm": 110}),
        ("fast", {"tempo_bpm": 170}, {"tempo_bpm": 132}, {"tempo_bpm": 90}),
        ("loud", {"level_db": -10}, {"level_db": -14}, {"level_db": -20}),
        ("quiet", {"level_db": -26}, {"level_db": -21}, {"level_db": -16}),
    ],
)
def test_levels_are_facts_on_the_right_side(mini, fact, below, there, above):
    clip = mini.tracks.head(1)
    values = [FACTS[fact].of(clip.assign(**value)).item() for value in (below, there, above)]
    assert values[0] > 0.99 and values[1] == 0.5 and values[2] < 0.01


@pytest.mark.parametrize("tag", ["sitar", "drums", "vocal", "choir", "rock"])
def test_tags_come_as_often_as_two_listeners_agree(mini, tag):
    "Over the clips for which the fact is plain, within four standard errors of the binomial's share."
    fact, rate = WORDS[tag]
    plain = facts(mini.tracks)[fact].to_numpy() == 1
    given = tags_given(mini, 0)[plain, TAGS.index(tag)]
    p = 1 - (1 - rate) ** LISTENERS - LISTENERS * rate * (1 - rate) ** (LISTENERS - 1)
    assert AGREE == 2 and abs(given.mean() - p) < 4 * np.sqrt(p * (1 - p) / len(given))


@pytest.mark.parametrize(
    "one, other",
    [("vocal", "vocals"), ("female", "woman"), ("male", "man"), ("no vocals", "no voice"), ("beat", "beats")],
)
def test_synonyms_are_given_on_their_own(mini, one, other):
    "Given the fact, one word says nothing of the other."
    assert WORDS[one][0] == WORDS[other][0]
    plain = facts(mini.tracks)[WORDS[one][0]].to_numpy() == 1
    x, y = (tags_given(mini, 0)[plain, TAGS.index(tag)].astype(float) for tag in (one, other))
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(len(x)) and not (x == y).all()


def test_more_noise_keeps_what_was_said(mini):
    given = [tags_given(mini, noise) for noise in (0, 0.01, 0.05, 0.2, 0.5)]
    for less, more in zip(given[:-1], given[1:], strict=True):
        assert more[less].all() and more.sum() > less.sum()
    one, other = (miniature("tagatune", "smoke", label_noise=noise, render=False) for noise in (0.0, 0.2))
    assert one.root == other.root and one.fingerprint != other.fingerprint


@pytest.mark.parametrize("noise", [-0.1, 0.6, True, "much", float("nan")])
def test_impossible_noise_is_refused(mini, noise):
    with pytest.raises(ParamsError, match="label_noise: expected a probability"):
        tags_given(mini, noise)


# The world ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_every_tag_can_be_learnt_and_tested(seed):
    corpus = miniature("tagatune", "mini", seed=seed, render=False)
    y, split = tag_matrix(corpus), corpus.official
    assert len(corpus) == 672 and len(split["test"]) >= 95 and len(split["train"]) >= 475
    assert y[split["train"]].sum(0).min() >= 8
    assert y[split["valid"]].sum(0).min() >= 1 and y[split["test"]].sum(0).min() >= 1
    assert 4 < y.sum(1).mean() < 7 and y.mean(0).max() < 0.4


def test_clips_of_a_track_and_an_artist_stay_together(mini):
    corpus = miniature("tagatune", "mini", render=False)
    table, numbers = corpus.table, track_numbers(corpus)
    assert len(set(numbers)) == 336 and set(np.bincount(numbers)) == {2} and (numbers == mini.tracks["track"]).all()
    folder = table["path"].str[0]
    assert (folder.groupby(table["artist"]).nunique() == 1).all()
    assert (mini.tracks["folder"] == folder).all() and table["path"].is_unique
    for part in corpus.official.parts.values():
        assert set(mini.tracks["style"][part]) == set(RECIPES)
    assert set(table["duration_s"]) == {8.0} and table["genre"].isna().all() and table["instruments"].isna().all()


def test_clips_of_a_track_differ_in_what_is_heard(mini):
    by_track = mini.tracks.groupby("track")
    assert 0.2 < (by_track["sounds"].nunique() > 1).mean() < 0.7
    for column in ("tempo_bpm", "style", "artist", "level_db", "gender"):
        assert (by_track[column].nunique() == 1).all()
    alone = mini.tracks[mini.tracks["style"] == "recital"]
    assert (alone["sounds"].map(len) == 1).all() and alone["lead"].nunique() >= 7
    assert mini.tracks["sounds"].map(len).min() >= 1


def test_all_that_sounds_has_notes(mini):
    for i in range(0, 672, 9):
        clip = mini.tracks.iloc[i]
        notes = clip_notes(_whole(mini.size, mini.seed), int(clip["track"]), int(clip["clip"]))
        for part in set(notes) - {"drums"}:
            onset, duration, *_ = notes[part].T
            assert len(onset) > 1 and (onset >= 0).all() and (duration > 0).all()
            assert (onset + duration <= 8 + 1e-9).all()
            assert ("bass" if part == "bass" else clip[part]) in clip["sounds"]
        assert ("drums" in clip["sounds"]) == bool(set(notes["drums"]) - {"shaker"})


def test_a_track_goes_on_where_its_last_clip_ended(mini):
    whole = _whole(mini.size, mini.seed)
    for n in range(0, 60, 7):
        parts = score(whole, n)
        notes = parts.get("comp", parts["lead"])
        onset, duration, *_ = notes.T
        heard = sum(_cut(notes, start, start + 8)[:, 1].sum() for start in (0, 8))
        written = np.clip(np.minimum(onset + duration, 16) - onset, 0, None).sum()
        assert heard == pytest.approx(written, rel=0.02)


def test_this_world_shares_no_dice_with_the_others(mini):
    others = [world("mini", view=view) for view in VIEWS if view != "tagatune"] + [world("mini", 1, "tagatune")]
    for other in others:
        assert not set(mini.artists["artist"]) & set(other.artists["artist"])


@pytest.mark.parametrize(
    "size, word",
    [
        (dict(folders="0123"), "c and d among them"),
        (dict(folders="ccd"), "different letters"),
        (dict(folders=7), "different letters"),
        (dict(clips_per_track=0), "1 or more"),
        (dict(genres=("opera", "Rock")), "two or more names of RECIPES"),
        (dict(n_artists=30), "three for each of 16"),
        (dict(clips=2), "clips_per_track"),
        (Size(), "TagatuneSize"),
    ],
)
def test_wrong_sizes_are_named(size, word):
    with pytest.raises(ParamsError, match=word):
        world(size, view="tagatune")


def test_sizes_have_the_promised_counts():
    counts = {name: size.n_tracks * size.clips_per_track for name, size in TAGATUNE_SIZES.items()}
    assert counts == dict(smoke=42, mini=672, claims=1536, paper=26_880)
    for name, size in TAGATUNE_SIZES.items():
        assert size_of(name, TAGATUNE_SIZES) == size
    assert world(TagatuneSize(), view="tagatune") is world("mini", view="tagatune")


@pytest.mark.long
def test_every_split_of_claims_has_every_tag():
    claims = miniature("tagatune", "claims", render=False)
    y = tag_matrix(claims)
    for split in SPLITS:
        for rows in by_folder(claims, split).parts.values():
            assert y[rows].sum(0).min() >= 1
    assert claims.table["split"].isna().mean() == pytest.approx(9 / 16, abs=0.02)


# The audio ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", RECIPES)
def test_every_style_sounds_at_its_level(mini, style):
    for i in np.flatnonzero(mini.tracks["style"] == style)[[0, -1]]:
        x = render_track(mini, int(i))
        assert x.shape == (8 * SR,) and x.dtype == np.float32 and np.isfinite(x).all() and np.abs(x).max() <= 1
        heard = 20 * np.log10(np.sqrt((x**2).mean()))
        assert -2 < heard - mini.tracks["level_db"][i] < 0.1  # the loudest are limited


def test_it_keeps_its_sound(mini):
    heard = np.concatenate([render_track(mini, i)[5000 :: 8 * SR // 5][:5] for i in (0, 400)])
    expected = [-0.1356, -0.2174, -0.2957, 0.086, -0.0668, -0.0032, -0.0024, 0.1064, 0.0317, 0.0504]
    np.testing.assert_allclose(heard, expected, atol=1e-4)


@pytest.mark.parametrize(
    "size, key, fingerprint",
    [
        ("smoke", "497d8a78d8bfcc96", "4f1bd09f254899a044cbe440c3e05b96"),
        ("mini", "1c0b3b7f04ab2c7f", "e2c7774da5b4a672406a6ecf1ec6634e"),
    ],
)
def test_it_keeps_its_table_and_its_place(size, key, fingerprint):
    corpus = miniature("tagatune", size, render=False)
    assert (corpus.root.name, corpus.fingerprint) == (key, fingerprint)


@pytest.mark.long
def test_tags_are_heard_in_artists_that_were_never_heard(mini):
    "A linear model on mean spectra is far from chance and far from perfect, and each kind of tag is heard by itself."
    from sklearn.metrics import roc_auc_score

    first = range(0, 672, 2)  # clip of every track
    X, y = statistics(mini, first, lowest_hz=60, n_fft=2048), tags_given(mini)[::2]
    train = np.array(parts_by_folder(mini.tracks["folder"][::2], [True] * 336), object) == "train"

    def area(k):
        model = linear_model(0.01, 300).fit(X[train], y[train, k])
        return roc_auc_score(y[~train, k], model.decision_function(X[~train]))

    areas = {tag: area(k) for k, tag in enumerate(TAGS)}
    assert 0.75 < np.mean(list(areas.values())) < 0.95
    for tag in ("techno", "choir", "female", "male", "drums", "loud", "sitar", "harpsichord", "slow"):
        assert areas[tag] > 0.7, (tag, areas[tag])
