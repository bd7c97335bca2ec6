"Downloads go on where they were cut, and are whole or absent; archives stay inside their folder."

import errno
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections import namedtuple

import pytest

from served import serving

from musicmtl import download
from musicmtl.core import RunError, generator
from musicmtl.download import Remote, fetch, size_text, unpack

CONTENT = generator("download").bytes(300_000)
SHA1 = f"sha1:{hashlib.sha1(CONTENT).hexdigest()}"


@pytest.fixture
def site():
    with serving() as found:
        found.files["file.bin"] = CONTENT
        yield found


@pytest.fixture
def get(site, tmp_path):
    "`fetch` of the file, without pauses; what it said is kept."

    def bring(checksum=SHA1, **options):
        options = {"size": len(CONTENT), "exact": True, **options}
        remote = Remote(f"{site.address}/file.bin", options.pop("size"), checksum, options.pop("exact"))
        return fetch(remote, tmp_path, say=bring.said.append, pause_s=0, **options)

    bring.said = []
    return bring


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def ranges(site):
    return [headers.get("Range") for headers in site.asked]


# ---- downloads


def test_a_file_comes_whole_under_its_own_name_alone(get, site, tmp_path):
    assert get() == tmp_path / "file.bin" and (tmp_path / "file.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["file.bin"] and get.said == []


def test_a_file_that_is_there_is_not_asked_for_again(get, site):
    get()
    get()
    get("")
    assert len(site.asked) == 1


def test_a_file_with_the_wrong_content_or_length_is_brought_anew(get, site, tmp_path):
    (tmp_path / "file.bin").write_bytes(bytes(len(CONTENT)))
    assert get().read_bytes() == CONTENT
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1])
    assert get("").read_bytes() == CONTENT


def test_cut_connections_are_gone_on_from_where_they_were_cut(get, site):
    site.cuts = [1000, 50_000, 0, 200_000]
    assert get("").read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=1000-", "bytes=51000-", "bytes=51000-", "bytes=251000-"]
    assert all(headers["If-Range"] == '"1"' for headers in site.asked[1:])
    assert "file.bin: going on at 51,000 of 300,000 bytes" in get.said


def test_tries_that_bring_nothing_are_counted_and_the_part_stays(get, site, tmp_path):
    site.cuts = [5000, 0, 0, 0]
    with pytest.raises(RunError, match=r"at 5,000 bytes; 3 tries brought nothing more"):
        get(tries=3)
    assert left(tmp_path) == ["file.bin.part", "file.bin.part.json"]
    assert get().read_bytes() == CONTENT and left(tmp_path) == ["file.bin"]
    assert ranges(site)[-1] == "bytes=5000-"


def test_a_server_without_ranges_sends_it_from_the_beginning(get, site):
    site.cuts, site.ranges = [100_000], False
    assert get("").read_bytes() == CONTENT
    assert any("from the beginning" in sentence for sentence in get.said)


@pytest.mark.parametrize("if_range", [True, False], ids=["if-range", "no if-range"])
@pytest.mark.parametrize("checksum", ["", SHA1], ids=["no checksum", "checksum"])
def test_a_file_that_changes_between_two_requests_is_not_joined(get, site, if_range, checksum):
    "A server that does not look at If-Range sends the rest of the new file: its ETag tells."
    new = CONTENT
    site.files["file.bin"], site.etag, site.cuts = bytes(len(new)), '"old"', [100_000, 0]
    with pytest.raises(RunError, match="tries"):
        get(checksum, tries=1)
    site.files["file.bin"], site.etag, site.if_range = new, '"new"', if_range
    assert get(checksum).read_bytes() == new


def test_without_a_name_for_the_version_only_a_checksum_allows_to_go_on(get, site):
    site.cuts, site.etag = [100_000, 100_000], None
    assert get("").read_bytes() == CONTENT
    assert ranges(site) == [None, None, None]
    os.remove(get(""))
    site.asked.clear()
    site.cuts, site.etag = [100_000], 'W/"weak"'
    assert get(SHA1).read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=100000-"] and "If-Range" not in site.asked[1]


def test_the_date_of_a_file_names_its_version_too(get, site):
    site.cuts, site.etag, site.modified = [100_000], 'W/"weak"', "Mon, 01 Jan 2024 00:00:00 GMT"
    assert get("").read_bytes() == CONTENT
    assert site.asked[1]["If-Range"] == site.modified


def test_a_part_longer_than_the_file_is_thrown_away(get, site, tmp_path):
    site.cuts = [100_000, 0]
    with pytest.raises(RunError):
        get(tries=1)
    (tmp_path / "file.bin.part").write_bytes(bytes(400_000))
    assert get().read_bytes() == CONTENT


def test_a_part_of_another_address_is_not_gone_on_with(get, site, tmp_path):
    site.cuts = [100_000, 0]
    with pytest.raises(RunError):
        get(tries=1)
    note = tmp_path / "file.bin.part.json"
    note.write_text(note.read_text().replace("localhost", "elsewhere"))
    assert get().read_bytes() == CONTENT and ranges(site)[-1] is None


def test_a_torn_note_beside_the_part_means_from_the_beginning(get, site, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"?" * 1000)
    (tmp_path / "file.bin.part.json").write_text("{")
    assert get("").read_bytes() == CONTENT and ranges(site) == [None]


def test_a_wrong_checksum_leaves_nothing(get, tmp_path):
    with pytest.raises(RunError, match="expected the published md5 0{32}, found another"):
        get("md5:" + "0" * 32)
    assert left(tmp_path) == []


def test_another_length_than_published_is_refused_before_a_byte_is_written(get, tmp_path):
    with pytest.raises(RunError, match=r"expected 299,999 bytes, as published, found 300,000"):
        get(size=len(CONTENT) - 1)
    assert left(tmp_path) == []


def test_sizes_that_are_known_about_are_not_compared(get):
    assert get("", size=1, exact=False).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_another_try_does_not_mend_is_said_at_once(get, site, status):
    site.statuses = [status]
    with pytest.raises(RunError, match=f"file.bin: expected the file, found {status}"):
        get()
    assert len(site.asked) == 1


def test_a_server_that_is_busy_is_asked_again(get, site):
    site.statuses = [503, 429, 500]
    assert get().read_bytes() == CONTENT
    assert [sentence.split(",")[0] for sentence in get.said] == [
        "file.bin: the server answers 503 Service Unavailable",
        "file.bin: the server answers 429 Too Many Requests",
        "file.bin: the server answers 500 Internal Server Error",
    ]


def test_a_web_page_in_the_place_of_a_file_is_refused(get, site):
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(RunError, match="found a web page"):
        get("")


def test_archives_are_not_decompressed_on_the_way(get, site):
    site.encoding = "x-gzip"
    assert get("").read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_long_a_file_is(get, site):
    site.length = False
    assert get().read_bytes() == CONTENT


def test_no_server_is_one_sentence(tmp_path):
    with serving() as site:
        remote = Remote(f"{site.address}/file.bin", 1)
    with pytest.raises(RunError, match="file.bin: no connection, at 0 bytes; 2 tries"):
        fetch(remote, tmp_path, pause_s=0, tries=2, say=lambda sentence: None)
    with pytest.raises(RunError, match="cannot be asked for"):
        fetch(Remote("nonsense://x/file.bin", 1), tmp_path)


def test_a_disk_without_room_is_said_before_the_first_byte(get, site, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(RunError, match="expected 293 KiB of room in .*, found 1000 bytes|found 1.0 KiB"):
        get()
    assert not (tmp_path / "file.bin.part").exists() or not (tmp_path / "file.bin.part").stat().st_size


def test_a_disk_that_fills_up_keeps_what_has_come(get, site, tmp_path, monkeypatch):
    written = []

    class Full(io.FileIO):
        def write(self, block):
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(super().write(bytes(block[:100_000])))
            return len(block)

    monkeypatch.setattr(download, "open", lambda path, mode: Full(path, mode), raising=False)
    monkeypatch.setattr(download, "_BLOCK", 100_000)
    with pytest.raises(RunError, match="the disk of .* is full .No space left.*the same command goes on"):
        get()
    monkeypatch.undo()
    assert (tmp_path / "file.bin.part").stat().st_size == 100_000
    assert get().read_bytes() == CONTENT and ranges(site)[-1] == "bytes=100000-"


SLOW = """
import sys
from musicmtl.download import Remote, fetch
print("asking", flush=True)
fetch(Remote(sys.argv[1], int(sys.argv[2]), sys.argv[3]), sys.argv[4], pause_s=60)
"""


def test_a_killed_download_is_gone_on_with(get, site, tmp_path):
    site.cuts = [100_000, 0, 0]
    command = [sys.executable, "-c", SLOW, f"{site.address}/file.bin", str(len(CONTENT)), SHA1, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    part = tmp_path / "file.bin.part"
    while not (part.exists() and part.stat().st_size == 100_000 and len(site.asked) >= 2):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    site.cuts = []
    assert get().read_bytes() == CONTENT and ranges(site)[-1] == "bytes=100000-"


def test_a_whole_part_is_not_asked_for_again_when_its_sum_was_interrupted(get, site, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.core.hash_matches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        get()
    monkeypatch.undo()
    assert left(tmp_path) == ["file.bin.part", "file.bin.part.json"]
    assert get().read_bytes() == CONTENT and len(site.asked) == 1


def test_disks_without_second_names(get, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    assert get().read_bytes() == CONTENT


def test_sizes_as_people_read_them():
    assert [size_text(n) for n in (0, 999, 2048, 5_000_000, 7_679_594_875, 10**15)] == [
        "0 bytes",
        "999 bytes",
        "2.0 KiB",
        "4.8 MiB",
        "7.2 GiB",
        "931323 GiB",
    ]


# ---- archives


def zipped(path, members: dict, mode=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", mode) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path, members: dict, **kinds):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../outside"
            archive.addfile(info)
    return path


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GOOD = {"top/a/one.bin": CONTENT, "top/b/two.txt": b"two", "top/__MACOSX/x": b"?", "top/.DS_Store": b"?"}
WANTED = {"a/one.bin": CONTENT, "b/two.txt": b"two"}
ARCHIVES = pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar.gz"])


@ARCHIVES
def test_an_archive_is_unpacked_with_its_sums(pack, tmp_path):
    found = unpack([pack(tmp_path / "songs", GOOD)], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == WANTED
    assert found == {name: [len(content), zlib.crc32(content)] for name, content in WANTED.items()}


@ARCHIVES
def test_an_archive_in_parts_is_read_as_one(pack, tmp_path):
    whole = pack(tmp_path / "songs", GOOD).read_bytes()
    parts = [tmp_path / f"part{i}" for i in range(4)]
    for i, part in enumerate(parts):
        part.write_bytes(whole[i * 90_000 : (i + 1) * 90_000])
    assert len(whole) > 3 * 90_000
    unpack(parts, tmp_path / "to", within="top")
    assert files(tmp_path / "to") == WANTED


@ARCHIVES
@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/outside", "C:/outside", "..\\outside", "a\nb", "a/\x1b[31m", ".."],
)
def test_names_that_lead_out_are_refused_and_nothing_is_taken(pack, name, tmp_path):
    archive = pack(tmp_path / "songs", {"good.txt": b"good", name: b"bad"})
    with pytest.raises(RunError, match="stay inside its folder.*nothing was unpacked"):
        unpack([archive], tmp_path / "deep" / "to")
    assert files(tmp_path / "deep") == {} and not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    archive = tarred(tmp_path / "songs", {"good.txt": b"good"}, way=kind)
    with pytest.raises(RunError, match="found a link or device 'way'"):
        unpack([archive], tmp_path / "to")
    assert files(tmp_path / "to") == {}


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("way")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = zipped(tmp_path / "songs", {"good.txt": b"good", info: "../outside"})
    with pytest.raises(RunError, match="found a link or device 'way'"):
        unpack([archive], tmp_path / "to")
    assert files(tmp_path / "to") == {}


@ARCHIVES
def test_a_link_that_lies_in_the_folder_does_not_lead_out_of_it(pack, tmp_path):
    (tmp_path / "to").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "to" / "b").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="found a link at .*b that leads elsewhere"):
        unpack([pack(tmp_path / "songs", GOOD)], tmp_path / "to", within="top")
    assert files(tmp_path / "outside") == {}


@ARCHIVES
def test_a_cut_archive_is_refused_whole(pack, tmp_path):
    archive = pack(tmp_path / "songs", GOOD)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(RunError, match="songs: expected an archive, found it damaged"):
        unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == {}


def test_a_tar_whose_last_sum_is_wrong_is_refused_whole(tmp_path):
    archive = tarred(tmp_path / "songs", GOOD)
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1  # the checksum of all that is in it
    archive.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == {}


def test_a_zip_with_a_damaged_member_is_refused_whole(tmp_path):
    archive = zipped(tmp_path / "songs", GOOD, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[1000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(RunError, match="damaged .Bad CRC-32"):
        unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == {}


def test_something_else_than_an_archive_is_refused(tmp_path):
    (tmp_path / "songs").write_text("<html>")
    with pytest.raises(RunError, match="expected an archive, found it damaged"):
        unpack([tmp_path / "songs"], tmp_path / "to")


@ARCHIVES
def test_an_archive_of_nothing_is_refused(pack, tmp_path):
    with pytest.raises(RunError, match="expected files, found none"):
        unpack([pack(tmp_path / "songs", {"__MACOSX/a": b"?"})], tmp_path / "to")


def test_a_name_twice_is_refused(tmp_path):
    archive = tmp_path / "songs"
    with tarfile.open(archive, "w:gz") as file:
        for content in (b"one", b"two"):
            info = tarfile.TarInfo("a")
            info.size = 3
            file.addfile(info, io.BytesIO(content))
    with pytest.raises(RunError, match="expected each name once, found 'a' again"):
        unpack([archive], tmp_path / "to")


@ARCHIVES
def test_a_file_where_a_folder_should_be_is_refused(pack, tmp_path):
    with pytest.raises(RunError, match="a file and a folder of one name"):
        unpack([pack(tmp_path / "songs", {"a": b"file", "a/b": b"below it"})], tmp_path / "to")


def test_a_zip_that_unpacks_to_more_than_the_disk_holds_is_not_begun(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "songs", {"zeros": bytes(5_000_000)})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1_000_000))
    with pytest.raises(RunError, match="songs, unpacked: expected 4.8 MiB of room"):
        unpack([archive], tmp_path / "to")
    assert files(tmp_path / "to") == {}


@ARCHIVES
def test_a_disk_that_fills_up_while_unpacking_is_left_as_it_was(pack, tmp_path, monkeypatch):
    archive = pack(tmp_path / "songs", GOOD)
    copy = download._copy

    def full(source, path):
        if path.name == "two.txt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy(source, path)

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(RunError, match="is full .*make room, then the same command unpacks it"):
        unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == {}
    monkeypatch.undo()
    unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == WANTED


def test_unpacking_again_mends_and_keeps_what_else_is_there(tmp_path):
    archive = zipped(tmp_path / "songs", GOOD)
    unpack([archive], tmp_path / "to", within="top")
    (tmp_path / "to" / "a" / "one.bin").write_bytes(b"damaged")
    (tmp_path / "to" / "own.txt").write_bytes(b"own")
    unpack([archive], tmp_path / "to", within="top")
    assert files(tmp_path / "to") == {**WANTED, "own.txt": b"own"}
