"The `fma` view: what it was before other views came, it still is."

import pytest
from hearing import assert_samples

from musicmtl.miniature import miniature, render_track, world


def test_noise_and_view_do_not_change_where_the_audio_lies():
    one, other = (miniature(size="mini", label_noise=noise, render=False) for noise in (0.0, 0.3))
    assert one.root == other.root and one.fingerprint != other.fingerprint
    assert miniature(size="mini", seed=1, render=False).root != one.root
    assert miniature(size={"duration_s": 30}, render=False).root != one.root


def test_the_official_split_keeps_artists_together():
    corpus = miniature(size="mini", render=False)
    assert (corpus.table.groupby("artist")["split"].nunique() == 1).all()
    assert {part: len(rows) for part, rows in corpus.official.parts.items()} == dict(train=384, valid=48, test=48)


def test_smoke_is_small_but_long_enough_for_a_window():
    smoke = world("smoke")
    assert len(smoke.tracks) == 36 and smoke.size.duration_s >= 7.6
    assert len(smoke.genres) == 4 and (smoke.genres["n_artists"] >= 3).all()


@pytest.mark.parametrize(
    "size, key, fingerprint",
    [
        ("smoke", "2b01bb65cd8b7a6e", "51efc2e5a3550e2a3cc019a25dbf5477"),
        ("mini", "24a25a068b598bdf", "9a97668ae2ad438092c1dd96f637efdc"),
    ],
)
def test_it_keeps_its_table_and_its_place(size, key, fingerprint):
    corpus = miniature(size=size, render=False)
    assert (corpus.root.name, corpus.fingerprint) == (key, fingerprint)


@pytest.mark.parametrize(
    "size, i, samples",
    [
        ("smoke", 0, [-0.0181, 0.1748, -0.0664, 0.2312, 0.2879, -0.0183, 0.1509, 0.066, -0.0413, 0.1419]),
        ("smoke", 17, [-0.2533, -0.526, -0.2625, -0.0324, 0.1009, -0.4583, -0.5626, -0.0437, 0.4537, -0.0872]),
        ("mini", 5, [0.0138, 0.0453, 0.0215, 0.0221, 0.1788, -0.1339, -0.0564, -0.1108, 0.1809, 0.1967]),
        ("mini", 300, [-0.0348, -0.2276, -0.0937, -0.2323, -0.0709, 0.171, -0.0023, -0.0556, -0.0701, -0.1714]),
    ],
)
def test_it_keeps_its_sound(size, i, samples):
    assert_samples(render_track(world(size), i), samples)
