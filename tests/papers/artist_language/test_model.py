"Network, segments and splits of the artist and language paper."

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.balance import GradNorm, Static, backward, fan_out
from musicmtl.core import CorpusError, ParamsError
from musicmtl.corpus import Corpus
from musicmtl.features import FeatureBank
from musicmtl.viz import n_parameters
from musicmtl.papers.artist_language.model import (
    FOLDS,
    FRONT_END,
    PIECE,
    SEGMENT,
    Block,
    FiveBlockCNN,
    Protocol,
    deal,
    front_end,
    held_out,
    label_count_weight,
    published_split,
    segment_starts,
    song_pieces,
    to_validate,
    unheard_artists,
    widths_of,
)
from musicmtl.study import published
from musicmtl.viz import architecture_table


def segments(batch=3, seed=0):
    return torch.randn(batch, 1, 96, SEGMENT, generator=torch.Generator().manual_seed(seed))


def songs(counts, languages=4, per_album=None):
    "A corpus without sound: `counts` songs of each artist, artists dealt to languages, perhaps on albums."
    rows = []
    for artist, n in enumerate(counts):
        known = dict(artist=f"artist {artist:02d}", language=f"language {artist % languages}")
        for song in range(n):
            album = f"album {song // per_album}" if per_album else None
            rows.append(dict(track_id=f"{artist}-{song}", path=f"{artist}/{song}.wav", album=album, **known))
    return Corpus(pd.DataFrame(rows), "nowhere", name="songs")


# Network


def test_parameter_counts():
    net = FiveBlockCNN([68, 17])
    assert n_parameters(net.blocks) == 185_568
    assert [n_parameters(FiveBlockCNN(n)) for n in ([17], [68], [68, 17])] == [193_745, 218_276, 226_453]
    assert n_parameters(FiveBlockCNN([17])) // 1000 == 193  # as the paper has it


def test_shapes_of_the_paper():
    output = architecture_table(FiveBlockCNN(), (1, 1, 96, 187)).set_index("layer").output
    assert [output[f"blocks.{i}.pool"] for i in range(5)] == ["32×48×93", "64×24×46", "128×12×23", "64×6×11", "32×3×5"]
    assert output["flatten"] == "480"
    assert [z.shape for z in FiveBlockCNN([68, 17])(segments(2))] == [(2, 68), (2, 17)]


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_width_divisor(divisor):
    net = FiveBlockCNN([5], divisor)
    assert net.embed(segments(2)).shape == (2, 480)  # the embedding keeps its size
    assert min(widths_of(divisor)) >= 8 and net.shared_weight.shape == (32, 64 // divisor, 3, 3)
    assert net.shared_weight is net.blocks[4].conv.weight


def test_a_coarse_network_sees_the_same_three_seconds():
    net = FiveBlockCNN([5], 4, coarse=2)
    assert net.embed(torch.zeros(2, 1, 48, 93)).shape == (2, 64)
    options = front_end(2)
    assert (options["n_mels"], options["hop"], options["n_fft"]) == (48, 512, 1024) and front_end() == FRONT_END
    assert 93 * options["hop"] == pytest.approx(SEGMENT * FRONT_END["hop"], rel=0.01)
    with pytest.raises(ParamsError, match=r"expected segments \[B, 1, 48, 93\]"):
        net(torch.zeros(2, 1, 96, 187))
    with pytest.raises(ParamsError, match="coarse: expected one of 1, 2, found 3"):
        FiveBlockCNN([5], coarse=3)


def test_order_inside_a_block():
    torch.manual_seed(0)
    block = Block(2, 3).eval()
    with torch.no_grad():
        for weights in block.bn.parameters():
            weights.copy_(torch.randn_like(weights))  # a negative scale tells whether the pool comes before or after
        block.bn.running_mean.normal_()
    x = torch.randn(2, 2, 6, 7)
    want = F.max_pool2d(block.bn(F.relu(block.conv(x))), 2)
    torch.testing.assert_close(block(x), want)
    assert not torch.allclose(block.bn(F.max_pool2d(F.relu(block.conv(x)), 2)), want)


def test_channels_last_is_the_same_network():
    net = FiveBlockCNN([5, 2], 4).eval()
    assert net.blocks[0](segments()).is_contiguous(memory_format=torch.channels_last)  # what takes less time
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    assert plain.blocks[0](segments()).is_contiguous()
    torch.testing.assert_close(net.embed(segments()), plain.embed(segments()))


def test_time_and_mel_may_be_exchanged():
    "The paper's (187, 96): with transposed kernels the blocks give the transposed map."
    net, turned = FiveBlockCNN([5], 8).eval(), FiveBlockCNN([5], 8).eval()
    weights = net.state_dict()
    turned.load_state_dict({name: W.transpose(2, 3) if W.ndim == 4 else W for name, W in weights.items()})
    h = segments()
    h_turned = h.transpose(2, 3)
    for block, block_turned in zip(net.blocks, turned.blocks, strict=True):
        h, h_turned = block(h), block_turned(h_turned)
    torch.testing.assert_close(h_turned, h.transpose(2, 3))


def test_head_left_out_changes_nothing_else():
    net = FiveBlockCNN([6, 3], 8).eval()
    artist = net.keep_heads(0)
    torch.testing.assert_close(artist(segments())[0], net(segments())[0])
    assert len(artist.tops) == 1 and len(net.tops) == 2
    with torch.no_grad():
        artist.blocks[0].conv.weight.zero_()  # a copy
    assert net.blocks[0].conv.weight.abs().sum() > 0


@pytest.mark.parametrize("wrong", [(2, 1, 187, 96), (2, 96, 187), (2, 1, 96, 188)])
def test_other_inputs_are_refused(wrong):
    with pytest.raises(ParamsError, match=r"expected segments \[B, 1, 96, 187\]"):
        FiveBlockCNN([5], 8)(torch.zeros(wrong))


# Loss


@pytest.fixture
def batch():
    "A small network, segments, and the classes of both tasks."
    torch.manual_seed(0)
    return FiveBlockCNN([8, 2], 8).eval(), segments(4), (torch.tensor([0, 3, 7, 1]), torch.tensor([0, 1, 1, 0]))


def losses_of(net, views, targets):
    return torch.stack([F.cross_entropy(z, y) for z, y in zip(net.heads(views), targets, strict=True)])


def test_loss_by_hand_and_its_gradient(batch):
    net, x, (artist, language) = batch
    z_artist, z_language = (torch.log_softmax(z, 1) for z in net(x))
    by_hand = -z_artist[range(4), artist].mean() - 4 * z_language[range(4), language].mean()
    by_hand.backward()
    want = [weights.grad.clone() for weights in net.parameters()]
    net.zero_grad()
    views = fan_out(net.shared(x), 2)
    balancer = Static([1, label_count_weight(8, 2)])
    log = backward(losses_of(net, views, (artist, language)), views, balancer, net.shared_weight)
    torch.testing.assert_close(log["total"], by_hand.detach())
    for weights, gradient in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(weights.grad, gradient, rtol=1e-4, atol=1e-6)


def test_gradients_that_a_balancer_sees(batch):
    "At the fifth convolution, through batch norm, pool and flatten: what each loss alone would give."
    net, x, y = batch
    norms = [torch.autograd.grad(F.cross_entropy(net(x)[i], y[i]), net.shared_weight)[0].norm() for i in range(2)]
    views = fan_out(net.shared(x), 2)
    log = backward(losses_of(net, views, y), views, GradNorm(2), net.shared_weight, new_epoch=True)
    torch.testing.assert_close(log["gramian"].diagonal().sqrt().float(), torch.stack(norms), rtol=1e-4, atol=1e-6)


def test_alpha():
    assert label_count_weight(68, 17) == 4
    assert label_count_weight(64, 17) == pytest.approx(3.76, abs=0.01)
    with pytest.raises(ParamsError, match="found 0 and 3"):
        label_count_weight(0, 3)


# Front end and segments


def test_front_end_is_librosas():
    librosa = pytest.importorskip("librosa")
    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1
    mel = FeatureBank(features=["mel"], **FRONT_END)(torch.from_numpy(wave)[None])["mel"][0].numpy()
    want = librosa.feature.melspectrogram(y=wave, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="constant")
    np.testing.assert_allclose(mel, np.log10(10_000 * want + 1), atol=2e-3)


def test_three_seconds_are_188_centred_frames():
    bank = FeatureBank(features=["mel"], **FRONT_END)
    assert bank.n_frames(48_000) == SEGMENT + 1 and PIECE * 256 == 60 * 16_000


def test_segment_counts_of_the_paper():
    rows = published("artist_language").query("variant == 'corpus'").set_index("metric").paper_value.astype(float)
    pieces = song_pieces(4 * 3750)
    assert [length for _, length in pieces] == [PIECE] * 2 and 340 * len(pieces) == rows["one_minute_pieces"]
    assert 340 * len(segment_starts(4 * 3750, 2)) == rows["three_second_segments"]
    assert 340 * len(segment_starts(4 * 3750)) == 10 * rows["three_second_segments"]


@settings(deadline=None)
@given(st.integers(0, 40_000), st.sampled_from([20, 2]))
def test_segments_lie_inside_and_apart(frames, per_piece):
    starts = segment_starts(frames, per_piece)
    assert len(starts) == 0 if frames < SEGMENT else 1 <= len(starts) <= 2 * per_piece
    if len(starts):
        assert starts[0] >= 0 and starts[-1] + SEGMENT <= frames
        assert (np.diff(starts) >= SEGMENT).all()
        assert set(starts) <= set(segment_starts(frames))
        for first, length in song_pieces(frames):
            assert length <= PIECE and first >= 0 and first + length <= frames


# Splits


def test_protocols():
    assert [Protocol(split).name for split in ("song", "album", "album_mates", "segment", "artist")] == [
        "published",
        "corrected",
        "corrected-song",
        "corrected-leak",
        "corrected-unheard",
    ]
    with pytest.raises(ParamsError, match="per_piece: expected one of 20, 2, found 3"):
        Protocol(per_piece=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=12), st.integers(2, 6), st.integers(0, 5))
def test_folds_deal_every_song_once_and_evenly(counts, folds, seed):
    corpus = songs(counts)
    fold = deal(corpus, "song", folds, seed)
    assert fold.min() >= 0 and fold.max() < folds
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    artist = corpus.labels("artist").codes
    for code in range(len(counts)):
        dealt = np.bincount(fold[artist == code], minlength=folds)
        assert np.ptp(dealt) <= 1
        assert (dealt[dealt > 0] < dealt.sum()).all()  # whoever is tested has been heard


def test_folds_do_not_depend_on_the_order_of_rows():
    def fold_by_song(corpus):
        return dict(zip(corpus.table.track_id, deal(corpus), strict=True))

    corpus = songs([5, 3, 4])
    assert fold_by_song(corpus) == fold_by_song(corpus.subset(np.arange(len(corpus))[::-1]))
    assert (deal(corpus, seed=1) != deal(corpus)).any()


def test_a_song_under_two_names_is_in_one_fold():
    plain = songs([4, 5, 4])
    doubled = plain.table
    doubled["recording"] = [None] * len(doubled)
    doubled.loc[[0, 3], "recording"] = "the same"
    doubled.loc[[5, 6], "path"] = "5.wav"
    fold = deal(plain.with_table(doubled), "song", 3)
    assert fold[0] == fold[3] and fold[5] == fold[6] and set(fold) == {0, 1, 2}
    doubled["recording"] = doubled["artist"]
    with pytest.raises(CorpusError, match="needs two of an artist, found none with two"):
        deal(plain.with_table(doubled), "song", 3)


def test_folds_that_cannot_be():
    assert deal(songs([2, 1, 3])).tolist().count(-1) == 1  # a single song is trained on, and never tested
    with pytest.raises(CorpusError, match="leaving one album out needs two of an artist, found none with two"):
        deal(songs([2, 3], per_album=3))
    with pytest.raises(ParamsError, match="at least 2, found 1"):
        deal(songs([2, 2]), folds=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=8), st.integers(1, 3), st.integers(0, 5))
def test_an_album_is_in_one_part_and_its_artist_in_others(counts, per_album, seed):
    corpus = songs([max(n, per_album + 1) for n in counts], per_album=per_album)
    album = (corpus.table.artist + corpus.table.album).to_numpy()
    artist, seen = corpus.table.artist.to_numpy(), []
    for fold in range(FOLDS):
        split = held_out(corpus, fold=fold, seed=seed)
        assert not set(album[split["train"]]) & set(album[split["test"]])
        assert set(artist[split["test"]]) <= set(artist[split["train"]])
        assert not set(split["train"]) & set(split["valid"]) and not set(split["test"]) & set(split["valid"])
        seen += split["test"].tolist()
    assert sorted(seen) == list(range(len(corpus)))


def test_songs_of_a_held_out_album_are_dealt_apart_where_songs_are_held_out():
    corpus = songs([4, 4, 4], per_album=2)
    album = (corpus.table.artist + corpus.table.album).to_numpy()
    splits = [held_out(corpus, Protocol("album_mates"), fold=fold) for fold in range(FOLDS)]
    assert any(set(album[split["train"]]) & set(album[split["test"]]) for split in splits)


def test_validation_takes_an_album_and_leaves_something_to_train_on():
    corpus = songs([6, 3, 1], per_album=2)
    chosen = to_validate(corpus, np.arange(10))
    album = (corpus.table.artist + corpus.table.album).to_numpy()
    assert [sum(a.startswith(f"artist 0{k}") for a in set(album[chosen])) for k in range(3)] == [1, 1, 0]
    assert len(chosen) in (3, 4) and not set(album[chosen]) & set(np.delete(album, chosen))
    by_song = to_validate(corpus, np.arange(10), "song")
    assert len(by_song) == 2


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(2, 12), st.integers(0, 1), st.integers(0, 5))
def test_unheard_artists_are_heard_nowhere(languages, per_language, fold, seed):
    corpus = songs([2] * languages * per_language, languages)
    split = held_out(corpus, Protocol("artist"), fold=fold, seed=seed)
    artists = [set(corpus.table.artist[split[part]]) for part in ("train", "valid", "test")]
    assert sum(map(len, artists)) == len(set.union(*artists)) == languages * per_language
    tested = corpus.table.loc[split["test"]].groupby("language").artist.nunique()
    assert tested.tolist() == [-(-(per_language - fold) // FOLDS)] * languages
    assert set(corpus.table.language[split["train"]]) == set(corpus.table.language)
    assert bool(artists[1]) == (per_language > 2)


def test_folds_reach_every_artist():
    corpus = songs([3] * 21, 3)
    folds = [set(corpus.table.artist[unheard_artists(corpus, fold=fold)[0]]) for fold in range(FOLDS)]
    assert set().union(*folds) == set(corpus.table.artist) and sum(map(len, folds)) == 21


def test_unheard_artists_need_company():
    with pytest.raises(CorpusError, match="two values of 'language' with two artists each, found 0"):
        unheard_artists(songs([2] * 4, 4))


@pytest.mark.parametrize(
    "split,both", [("song", False), ("album", False), ("album_mates", False), ("artist", False), ("segment", True)]
)
def test_songs_are_on_both_sides_only_where_it_leaks(split, both):
    corpus, n = songs([5] * 8), 6
    parts = held_out(corpus, Protocol(split), n_segments=n)
    per_song = n if split == "segment" else 1
    train, test = (set(parts[part] // per_song) for part in ("train", "test"))
    assert bool(train & test) == both
    assert train and test and not set(parts["train"]) & set(parts["test"])


def test_published_split_asks_for_half_of_the_artists_at_most():
    corpus = songs([5] * 68, 17)
    split = published_split(corpus)
    assert [len(split[part]) for part in ("train", "valid", "test")] == [272, 34, 34]
    assert corpus.table.artist[split["test"]].nunique() <= 34
    corrected = held_out(corpus, fold=2)
    assert corpus.table.artist[corrected["test"]].nunique() == 68 and len(corrected["test"]) == 340 // FOLDS
