"A corpus comes by one command, in the layout that its loader expects; a check names each file that is not whole."

import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import typing
import zipfile
from collections import namedtuple
from pathlib import Path

import h5py
import layouts
import numpy as np
import pytest
import soundfile
import torch

from served import serving

from musicmtl.core import CorpusError, InUse, ParamsError, RunError, locked
from musicmtl.download import Remote
from musicmtl.get import OFFERS, Offer, Piece, archive, check, find_offer, get, main, markdown, offers
from musicmtl.loaders import load_corpus
from musicmtl.musicnn import Musicnn
from musicmtl.papers.lstm_ensemble.data import load_msd
from musicmtl.study import find_study, main_studies


@pytest.fixture
def site():
    with serving() as found:
        yield found


def sound(kind="WAV", seconds=0.2):
    "A file of sound."
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(int(16000 * seconds)) / 10), 16000, format=kind)
    return file.getvalue()


MP3, OGG, WAV = sound("MP3"), sound("OGG"), sound()


def zipped(members: dict) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def tarred(members: dict) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return file.getvalue()


def below(folder: Path, *, under: str = "") -> dict:
    "Files of a folder, by name."
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {under + path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def served(name: str, site, contents: dict) -> Offer:
    "An offer whose files are on `site`: the same pieces, with the sizes and sums of `contents`."
    offer, site.files = OFFERS[name], dict(contents)

    def here(part: Remote) -> Remote:
        content = contents[part.name]
        algorithm = part.algorithm
        checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else ""
        return Remote(f"{site.address}/{part.name}", len(content), checksum, called=part.called)

    pieces = tuple(dataclasses.replace(piece, parts=tuple(map(here, piece.parts))) for piece in offer.pieces)
    pieces = (dataclasses.replace(piece, unpacked=piece.unpacked and 1000) for piece in pieces)
    return dataclasses.replace(offer, pieces=tuple(pieces))


# ---- the published corpora, in small


def fma(tmp_path, site, name="fma_small"):
    made = layouts.fma(tmp_path / "made").root
    subset, numbers = name[4:], range(2, 14, 1 if name == "fma_medium" else 2)
    clips = {f"fma_{subset}/{k // 1000:03d}/{k:06d}.mp3": MP3 for k in numbers}
    clips |= {f"fma_{subset}/README.txt": b"read", f"fma_{subset}/checksums": b"sums"}
    return served(name, site, {"fma_metadata.zip": zipped(below(made)), f"fma_{subset}.zip": zipped(clips)})


def magnatagatune(tmp_path, site):
    made = below(layouts.magnatagatune(tmp_path / "made").root)
    annotations = made.pop("annotations_final.csv")
    whole = zipped(dict.fromkeys(made, MP3))
    third = len(whole) // 3
    parts = whole[:third], whole[third : 2 * third], whole[2 * third :]
    files = {f"mp3.zip.00{k + 1}": part for k, part in enumerate(parts)}
    files |= {"annotations_final.csv": annotations, "clip_info_final.csv": b"clip_id\ttitle\n"}
    return served("magnatagatune", site, files)


def openmic(tmp_path, site):
    made = layouts.openmic(tmp_path / "made", arrays=False).root
    names = (made / "partitions" / "split01_train.csv").read_text().split()
    names += (made / "partitions" / "split01_test.csv").read_text().split()
    clips = {f"openmic-2018/audio/{key[:3]}/{key}.ogg": OGG for key in names}
    files = {"openmic-2018-v1.0.0.tgz": tarred(below(made, under="openmic-2018/") | clips)}
    return served("openmic", site, files)


def styles(names=("TRAAA0\tRock\n", "TRAAA1\tJazz\n", "TRAAA2\tRock\n", "TRAAA3\tJazz\n")):
    text = "".join(names).encode()
    zips = {
        f"msd_tagtraum_{kind}.cls.zip": zipped({f"msd_tagtraum_{kind}.cls": text}) for kind in ("cd1", "cd2", "cd2c")
    }
    return {**zips, "msd-MASD-styleAssignment.cls": text}


def msd(tmp_path, site, name="msd_subset"):
    made = layouts.msd_songs(tmp_path / "made").root
    (made / "styles.cls").unlink()
    songs = {"millionsongsubset.tar.gz": tarred(below(made, under="MillionSongSubset/"))}
    return served(name, site, {**styles(), **(songs if name == "msd_subset" else {})})


def audioset(tmp_path, site):
    made = layouts.audioset(tmp_path / "made").root
    table = (made / "balanced_train_segments.csv").read_bytes()
    return served("audioset", site, {"balanced_train_segments.csv": table, "unbalanced_train_segments.csv": table})


def musicnn(tmp_path, site):
    file = io.BytesIO()
    torch.save({key: tensor for key, tensor in Musicnn(50, 16).state_dict().items()}, file)
    files = {f"{kind}_magnatagatune.pth": file.getvalue() for kind in ("musicnn", "fcn", "crnn")}
    return served("musicnn", site, {**files, "musicnn-0.1.0-py3-none-any.whl": zipped({"musicnn/x": b""})})


def quiet(sentence):
    pass


@pytest.mark.parametrize(
    "make, n", [(fma, 6), (magnatagatune, 8), (openmic, 10)], ids=["fma", "magnatagatune", "openmic"]
)
def test_what_is_brought_is_what_the_loader_reads(make, n, site, tmp_path):
    offer, root = make(tmp_path, site), tmp_path / "root"
    site.cuts = [1000, 100]
    corpus = get(offer, root, say=quiet, pause_s=0)
    again = load_corpus(offer.corpus, root, **offer.options)
    assert len(corpus) == n and corpus.fingerprint == again.fingerprint
    assert all(corpus.path(row).is_file() for row in range(n))
    assert check(offer, root).faults == ()
    assert not [path for path in root.iterdir() if re.search(r"\.(zip|tgz|part|lock)", path.name)]


def test_both_sizes_of_fma_share_their_metadata(site, tmp_path):
    root = tmp_path / "root"
    get(fma(tmp_path, site), root, say=quiet)
    medium = fma(tmp_path, site, "fma_medium")
    n = len(site.asked)
    assert len(get(medium, root, say=quiet)) == 12 and len(site.asked) == n + 1
    assert check(medium, root).faults == ()


def test_songs_of_msd_and_the_one_file_of_styles_beside_them(site, tmp_path):
    offer, root = msd(tmp_path, site), tmp_path / "root"
    assert get(offer, root, say=quiet) is None
    assert len(load_msd(root, n_classes=None)) == 4
    assert len(load_msd(root, n_classes=None, cls=root / "styles" / "msd-MASD-styleAssignment.cls")) == 4
    assert check(offer, root).faults == ()


def test_weights_that_were_brought_are_read(site, tmp_path):
    offer, root, said = musicnn(tmp_path, site), tmp_path / "root", []
    get(offer, root, say=said.append)
    assert Musicnn.from_checkpoint(root / "musicnn_magnatagatune.pth").width > 0
    assert f"pip install --no-deps {root}/musicnn-0.1.0-py3-none-any.whl" in said[-2]
    assert check(offer, root).faults == ()
    (root / "fcn_magnatagatune.pth").write_bytes(b"torn")
    assert [fault.path for fault in check(offer, root).faults] == ["fcn_magnatagatune.pth"]


def test_of_audioset_the_tables_come_and_the_clips_are_asked_for(site, tmp_path):
    offer, root, said = audioset(tmp_path, site), tmp_path / "root", []
    with pytest.raises(CorpusError, match="no file of any of 6 clips"):
        get(offer, root, say=said.append)
    assert f"{root}/-0RWZT-miFs_420.wav" in said[-1]
    for k in range(5):
        (root / f"-vid_{k}_{10 * k}.wav").write_bytes(WAV)
    with pytest.warns(UserWarning, match="1 of 6 clips"):
        assert len(get(offer, root, say=quiet)) == 5
    assert [str(fault) for fault in check(offer, root).faults] == ["-vid_5_50.wav: missing"]


# ---- how it comes


@pytest.fixture
def tones(site):
    "Three tones in an archive."
    members = {f"tones/{name}.wav": WAV for name in ("low", "middle", "high")}
    site.files["tones.zip"] = content = zipped(members)
    checksum = f"sha1:{hashlib.sha1(content).hexdigest()}"
    piece = archive(f"{site.address}/tones.zip", len(content), checksum, unpacked=3 * len(WAV), within="tones")
    about = ("tones", "Three tones", "CC0", "Nobody: Three tones", "https://example.org", "tones")
    return Offer(*about, pieces=(piece,), corpus="folder")


def test_terms_are_said_before_a_byte_is_asked_for(tones, site, tmp_path):
    said = []

    def say(sentence):
        said.append((len(site.asked), sentence))

    get(tones, tmp_path / "root", say=say)
    n, first = said[0]
    assert n == 0 and "licence: CC0" in first and "cite: Nobody: Three tones" in first and "to download" in first
    assert any(sentence == "tones.zip: whole; its sha1 is the published one" for _, sentence in said)


def test_a_file_without_a_published_checksum_is_said_to_have_none(tones, tmp_path):
    (piece,) = tones.pieces
    plain = dataclasses.replace(piece, parts=(dataclasses.replace(piece.parts[0], checksum=""),))
    said = []
    get(dataclasses.replace(tones, pieces=(plain,)), tmp_path / "root", say=said.append)
    assert "tones.zip: whole; no checksum is published; its length is the server's" in said


def test_a_second_call_asks_for_nothing_and_a_lost_file_is_brought_again(tones, site, tmp_path):
    root = tmp_path / "root"
    get(tones, root, say=quiet)
    get(tones, root, say=quiet)
    assert len(site.asked) == 1
    (root / "low.wav").unlink()
    get(tones, root, say=quiet)
    assert len(site.asked) == 2 and check(tones, root).faults == ()


def test_archives_stay_where_they_are_kept(tones, site, tmp_path):
    root = tmp_path / "root"
    get(tones, root, keep=True, say=quiet)
    assert (root / "tones.zip").read_bytes() == site.files["tones.zip"]
    (root / "low.wav").unlink()
    get(tones, root, say=quiet)
    assert len(site.asked) == 1 and not (root / "tones.zip").exists()


def test_room_for_archive_and_files_is_looked_for_before_a_byte_is_asked_for(tones, site, tmp_path, monkeypatch):
    (piece,) = tones.pieces
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, piece.parts[0].size + piece.unpacked - 1))
    with pytest.raises(RunError, match="tones: expected 3. KiB of room in .*root, found"):
        get(tones, tmp_path / "root", say=quiet)
    assert site.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, piece.parts[0].size + piece.unpacked))
    assert len(get(tones, tmp_path / "root", say=quiet)) == 3


def test_what_has_come_needs_no_room_again(tones, tmp_path):
    (piece,) = tones.pieces
    assert piece.room(tmp_path) == piece.parts[0].size + piece.unpacked
    (tmp_path / "tones.zip.part").write_bytes(bytes(1000))
    assert piece.room(tmp_path) == piece.parts[0].size + piece.unpacked - 1000


def test_two_processes_do_not_write_to_one_folder(tones, site, tmp_path):
    with locked(tmp_path), pytest.raises(InUse, match="in use by another process"):
        get(tones, tmp_path, say=quiet)
    assert site.asked == []


def test_a_hostile_archive_leaves_the_folder_as_it_was(tones, site, tmp_path):
    site.files["tones.zip"] = content = zipped({"tones/low.wav": WAV, "../outside.wav": WAV})
    (piece,) = tones.pieces
    part = dataclasses.replace(piece.parts[0], size=len(content), checksum="")
    hostile = dataclasses.replace(tones, pieces=(dataclasses.replace(piece, parts=(part,)),))
    with pytest.raises(RunError, match="stay inside its folder"):
        get(hostile, tmp_path / "root", say=quiet)
    assert not list(tmp_path.rglob("*.wav"))


def test_unknown_names_are_told_the_known_ones(tmp_path):
    with pytest.raises(ParamsError, match="corpus: expected one of fma_small, .*, found 'fma'"):
        get("fma", tmp_path)


# ---- what a check says


def faults(offer, root):
    return sorted(map(str, check(offer, root).faults))


def test_each_missing_and_damaged_file_is_named(tones, tmp_path):
    root = tmp_path / "root"
    get(tones, root, say=quiet)
    (root / "low.wav").unlink()
    (root / "middle.wav").write_bytes(WAV[:-1])
    (root / "high.wav").write_bytes(WAV[:-1] + b"?")
    (root / "other.wav").write_bytes(WAV)
    (root / "broken.wav").write_bytes(b"RIFF")
    found = faults(tones, root)
    assert [fault for fault in found if not fault.startswith("broken")] == [
        "high.wav: damaged: its content has changed",
        "low.wav: missing",
        f"middle.wav: damaged: expected {len(WAV):,} bytes, found {len(WAV) - 1:,}",
    ]
    assert len(found) == 4 and str(check(tones, root)) == "tones: 1 file whole, 1 missing, 3 damaged or wrong"


def test_kept_files_are_compared_with_what_is_published(site, tmp_path):
    offer, root = audioset(tmp_path, site), tmp_path / "root"
    root.mkdir()
    name = "balanced_train_segments.csv"
    assert f"{name}: missing" in faults(offer, root)
    assert not [fault for fault in faults(offer, root) if fault.startswith("unbalanced")]
    content = bytearray(site.files[name])
    content[3] ^= 1
    (root / name).write_bytes(content)
    assert f"{name}: damaged: expected the published sha256, found another" in faults(offer, root)
    (root / name).write_bytes(content[:-1])
    assert any(fault.startswith(f"{name}: damaged: expected {len(content):,} bytes") for fault in faults(offer, root))


def by_hand(name: str) -> Offer:
    return dataclasses.replace(OFFERS[name], pieces=())


def test_clips_of_folders_that_came_another_way_are_checked_by_the_tables(tmp_path):
    root = layouts.fma(tmp_path).root
    for k in range(2, 14, 2):
        path = root / "fma_small" / "000" / f"{k:06d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MP3)
    assert faults(by_hand("fma_small"), root) == []
    path.unlink()
    (path.parent / "000004.mp3").write_bytes(b"")
    (path.parent / "000006.mp3").write_text("no music")
    found = faults(by_hand("fma_small"), root)
    assert [fault.split(":")[:2] for fault in found] == [
        ["fma_small/000/000004.mp3", " damaged"],
        ["fma_small/000/000006.mp3", " damaged"],
        ["fma_small/000/000012.mp3", " missing"],
    ]


@pytest.mark.parametrize(
    "name, lost", [("magnatagatune", "1/"), ("openmic", "000009_34560.ogg"), ("ballroom", "Waltz/")]
)
def test_a_lost_clip_of_every_layout_is_named(name, lost, tmp_path):
    root = layouts.layouts(tmp_path)[name].root
    if name == "openmic":
        for part in ("train", "test"):
            for key in (root / "partitions" / f"split01_{part}.csv").read_text().split():
                (root / "audio" / key[:3]).mkdir(exist_ok=True)
                (root / "audio" / key[:3] / f"{key}.ogg").write_bytes(OGG)
    for path in root.rglob("*.mp3"):
        path.write_bytes(MP3)
    assert faults(by_hand(name), root) == []
    (clip,) = [path for path in root.rglob("*") if lost in path.as_posix() and path.is_file()][:1]
    clip.unlink()
    place = clip.relative_to(root).as_posix()
    assert faults(by_hand(name), root) == [f"{place}: missing"]


def test_songs_are_read_and_styles_are_counted(tmp_path):
    root = layouts.msd_songs(tmp_path).root
    assert faults(by_hand("msd"), root) == []
    with h5py.File(root / "A" / "TRAAA1.h5", "a") as file:
        del file["analysis/segments_timbre"]
    (root / "A" / "TRAAA0.h5").write_bytes(b"torn")
    (root / "more.cls").touch()
    found = faults(by_hand("msd"), root)
    assert found[0] == "*.cls: expected one file of styles beside the songs, found 2"
    assert [fault.split(":")[0] for fault in found[1:]] == ["A/TRAAA0.h5", "A/TRAAA1.h5"]


@pytest.mark.parametrize("name", [name for name, offer in OFFERS.items() if offer.kind == "clips"])
def test_an_empty_folder_is_one_sentence_beside_the_pieces(name, tmp_path):
    (fault,) = check(by_hand(name), tmp_path).faults
    assert fault.path == "" and str(tmp_path) in fault.what


def test_a_torn_record_means_that_nothing_was_unpacked(tones, tmp_path):
    root = tmp_path / "root"
    get(tones, root, say=quiet)
    (root / ".musicmtl" / "tones.zip.json").write_text("{")
    assert check(tones, root).faults == () and not tones.pieces[0].is_there(root)


# ---- the offers


def test_every_corpus_of_a_study_is_offered_to_it():
    own = {"miniature", "folder", "commons", "albums"}  # rendered, the user's, or the project's
    datasets = {"fma_small", "openmic", "ballroom", "audioset"}
    names = {"fma": {"fma_medium"}, "regional": {"regional"}, "msd": {"msd", "msd_subset"}, "datasets": datasets}
    for study in main_studies():
        kinds = typing.get_args(typing.get_type_hints(find_study(study).settings)["corpus"])
        wanted = set().union(*(names.get(kind, {kind}) for kind in set(kinds) - own))
        assert {offer.name for offer in OFFERS.values() if study in offer.studies} - {"musicnn"} == wanted


def test_terms_are_those_that_the_loaders_state(tmp_path):
    made = layouts.layouts(tmp_path)
    for name in ("fma", "openmic", "ballroom", "audioset", "magnatagatune"):
        corpus = made[name].load()
        for offer in (offer for offer in OFFERS.values() if offer.corpus == name):
            assert offer.citation == corpus.citation
            assert offer.licence == corpus.licence or not corpus.licence


def test_checksums_are_whole_and_offers_are_told_apart():
    digits = {"md5": 32, "sha1": 40, "sha256": 64}
    for offer in OFFERS.values():
        assert offer.pieces or offer.by_hand
        parts = [part for piece in offer.pieces for part in piece.parts]
        assert len({part.name for part in parts}) == len(parts)
        for part in parts:
            assert not part.checksum or re.fullmatch(
                rf"[0-9a-f]{{{digits[part.algorithm]}}}", part.checksum.split(":")[1]
            )
            assert part.exact or not part.checksum
        assert find_offer(offer.name) is offer


def test_the_table_has_a_row_for_each():
    lines = markdown().splitlines()
    assert len(lines) == 2 + len(OFFERS) and {line.count("|") for line in lines} == {7}
    for line, (name, row) in zip(lines[2:], offers().iterrows(), strict=True):
        assert f"`python -m musicmtl.get {name} --root data/" in line and row["licence"] in line


def test_parts_of_an_archive_are_summed():
    piece = Piece(
        (Remote("https://example.org/a.zip.001", 10), Remote("https://example.org/a.zip.002", 5)), unpacked=20
    )
    offer = dataclasses.replace(OFFERS["fma_small"], pieces=(piece,))
    assert (offer.size, offer.unpacked, piece.name) == (15, 20, "a.zip.001")


# ---- the command


def test_without_arguments_it_says_what_there_is(capsys):
    assert main([]) == main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(offer.command in said and offer.licence in said for offer in OFFERS.values())


def test_it_brings_and_checks(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(OFFERS, "tones", tones)
    root = str(tmp_path / "root")
    assert main(["tones", "--root", root]) == 0
    assert main(["tones", "--root", root, "--check"]) == 0
    assert capsys.readouterr().out.endswith("tones: 3 files whole\n")
    (tmp_path / "root" / "low.wav").unlink()
    assert main(["tones", "--root", root, "--check"]) == 2
    assert capsys.readouterr().out.startswith("low.wav: missing\n")


def test_what_is_placed_by_hand_is_explained_until_it_is_there(tmp_path, capsys):
    root = tmp_path / "ballroom"
    assert main(["ballroom", "--root", str(root)]) == 2
    said = capsys.readouterr()
    assert f"{root}/extendedballroom_v1.1.xml" in said.out and "cite: Marchand" in said.out and said.err
    layouts.ballroom(root)
    assert main(["ballroom", "--root", str(root)]) == 0


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["fma"], "corpus: expected one of fma_small"),
        (["--check"], "corpus: expected one of fma_small"),
        (["fma_small"], "root: expected the folder of fma_small, found none"),
        (["fma_small", "--check", "--root", "none"], "fma_small: expected a folder, found none"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"musicmtl.get: {said}") and error.count("\n") == 1


def test_an_interrupted_download_leaves_with_130_and_goes_on(tones, site, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(OFFERS, "tones", tones)
    root, arguments = tmp_path / "root", ["tones", "--root", str(tmp_path / "root")]
    with monkeypatch.context() as patch:
        patch.setattr("musicmtl.download.time.sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
        site.cuts = [5000]
        assert main(arguments) == 130
    assert "goes on where it stopped" in capsys.readouterr().err
    assert (root / "tones.zip.part").stat().st_size == 5000
    assert main(arguments) == 0 and site.asked[-1]["Range"] == "bytes=5000-"


def test_a_disk_that_cannot_be_written_to_is_status_2(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(OFFERS, "tones", tones)
    (tmp_path / "root").write_text("a file")
    assert main(["tones", "--root", str(tmp_path / "root")]) == 2
    assert "root" in capsys.readouterr().err


def test_it_is_a_command():
    done = subprocess.run([sys.executable, "-m", "musicmtl.get"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("fma_small: ") and done.stderr == ""


def test_records_are_out_of_the_way_of_loaders(tones, tmp_path):
    root = tmp_path / "root"
    corpus = get(tones, root, say=quiet)
    assert corpus.table["path"].tolist() == ["high.wav", "low.wav", "middle.wav"]
    record = json.loads((root / ".musicmtl" / "tones.zip.json").read_text())
    assert set(record["files"]) == set(corpus.table["path"])
