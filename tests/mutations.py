"Sound files with one thing wrong with each, by name: what a disk, a network, a recorder or an attacker leaves behind."

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

MIRRORED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
WRITTEN = {  # name -> rate, container, codec; what libsndfile writes
    "wav": (44100, "WAV", "PCM_16"),
    "wav24": (44100, "WAV", "PCM_24"),
    "wavfloat": (44100, "WAV", "FLOAT"),
    "wavex": (44100, "WAVEX", "PCM_16"),
    "rf64": (44100, "RF64", "PCM_16"),
    "w64": (44100, "W64", "PCM_16"),
    "aiff": (44100, "AIFF", "PCM_16"),
    "au": (44100, "AU", "PCM_16"),
    "caf": (44100, "CAF", "PCM_16"),
    "adpcm": (44100, "WAV", "IMA_ADPCM"),
    "flac": (44100, "FLAC", "PCM_16"),
    "ogg": (44100, "OGG", "VORBIS"),
    "opus": (48000, "OGG", "OPUS"),
    "mp3": (44100, "MP3", "MPEG_LAYER_III"),
}


def music(
    seconds: float,
    sr: int,  # Hz
) -> np.ndarray:  # Stereo float32 [T, 2]
    "Notes that change every half second, with a little noise: no part of it is equal to another."
    t = np.arange(round(seconds * sr)) / sr
    pitch = 220 * 2 ** ((t // 0.5) * 7 % 12 / 12)
    x = 0.4 * np.sin(2 * np.pi * pitch * t) + 0.1 * np.sin(2 * np.pi * 3.01 * pitch * t)
    x += 0.02 * np.random.default_rng(0).normal(size=len(t))
    return np.stack([x, 0.6 * x], 1).astype(np.float32)


def sound_files(
    folder: Path,  # To write to
    seconds: float = 5.0,
) -> dict[str, Path]:  # Name of the format -> file
    "A file in every format of `WRITTEN`, an mp3 of variable bit rate, and one whose frames nothing counts."
    files = {}
    for name, (sr, container, codec) in WRITTEN.items():
        files[name] = folder / f"sound.{name}"
        sf.write(files[name], music(seconds, sr), sr, format=container, subtype=codec)
    files["vbr"] = folder / "sound.vbr"
    options = dict(format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.5)
    sf.write(files["vbr"], music(seconds, 44100), 44100, **options)
    data = files["vbr"].read_bytes()
    files["plain"] = folder / "sound.plain"
    files["plain"].write_bytes(data[second_frame(data) :])
    return files


def second_frame(
    data: bytes,  # Of an mp3 file
) -> int:
    "Where the second frame begins: the one behind the header that counts frames."
    first = 0
    if data[:3] == b"ID3":
        first = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(data[6:10]))
    position = first + 100
    while data[position : position + 2] != data[first : first + 2] or (data[position + 2] ^ data[first + 2]) & 0x0C:
        position += 1
    return position


# --- Ogg -------------------------------------------------------------------------------------------------------------


def ogg_pages(data: bytes) -> list[bytes]:
    "The pages of an ogg file, each with its header."
    start, pages = 0, []
    while start < len(data):
        header = 27 + data[start + 26]
        size = header + sum(data[start + 27 : start + header])
        pages.append(data[start : start + size])
        start += size
    return pages


def ogg_page(
    page: bytes,
    granule: int | None = None,  # Samples; as it is by default
    number: int | None = None,
    serial: int | None = None,
    flags: int | None = None,
) -> bytes:
    "The page with other numbers in its header, and the checksum to them."
    page = bytearray(page)
    for value, position, code in ((flags, 5, "<B"), (granule, 6, "<q"), (serial, 14, "<I"), (number, 18, "<I")):
        if value is not None:
            struct.pack_into(code, page, position, value)
    page[22:26] = bytes(4)
    reflected = zlib.crc32(bytes(page).translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    page[22:26] = reflected.to_bytes(4, "little").translate(MIRRORED)[::-1]
    return bytes(page)


def granule(page: bytes) -> int:
    "The time of a page, samples."
    return struct.unpack("<q", page[6:14])[0]


def renumbered(pages: list[bytes]) -> list[bytes]:
    "The pages, numbered from 0 on."
    return [ogg_page(page, number=i) for i, page in enumerate(pages)]


def ogg_mutations(data: bytes) -> Iterator[tuple[str, bytes]]:
    "Pages lost, doubled, swapped, with other numbers, times and marks; with their checksums made right."
    pages = ogg_pages(data)
    for i in range(len(pages)):
        kept = pages[:i] + pages[i + 1 :]
        yield f"page {i} lost", b"".join(kept)
        yield f"page {i} lost, others renumbered", b"".join(renumbered(kept))
        yield f"page {i} twice", b"".join(pages[: i + 1] + pages[i:])
    for i in range(2, len(pages) - 1):
        swapped = pages[:i] + [pages[i + 1], pages[i]] + pages[i + 2 :]
        yield f"pages {i} and {i + 1} swapped", b"".join(swapped)
        yield f"pages {i} and {i + 1} swapped and renumbered", b"".join(renumbered(swapped))
    for name, value in {"0": 0, "-1": -1, "2^32": 2**32, "2^40": 2**40, "2^62": 2**62, "-2^62": -(2**62)}.items():
        for i in (2, len(pages) // 2, len(pages) - 1):
            changed = [ogg_page(page, granule=value) if k == i else page for k, page in enumerate(pages)]
            yield f"time of page {i} is {name}", b"".join(changed)
    for add in (96, 448, 1000, 100_000):
        yield f"last time {add} later", b"".join(pages[:-1] + [ogg_page(pages[-1], granule=granule(pages[-1]) + add)])
    yield "no mark of the end", b"".join(pages[:-1] + [ogg_page(pages[-1], flags=0)])
    yield "end within", b"".join(pages[:3] + [ogg_page(pages[3], flags=4)] + pages[4:])
    yield "other serial", b"".join(pages[:3] + [ogg_page(pages[3], serial=1)] + pages[4:])
    later = [ogg_page(page, granule=granule(page) + 10**9) for page in pages[2:]]
    yield "times from 10^9 on", b"".join(pages[:2] + later)
    yield "chain", data + data
    yield "chain, second cut", data + data[: len(data) // 2]
    yield "side by side", pages[0] + ogg_page(pages[0], serial=7) + b"".join(pages[1:])


# --- mp3 -------------------------------------------------------------------------------------------------------------


def mp3_mutations(data: bytes) -> Iterator[tuple[str, bytes]]:
    "Tags, joined files, frames lost, and headers that are missing or wrong."
    first = second_frame(data)
    id3 = b"ID3\x03\0\0\0\0\x07\x68" + bytes(1000)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 100, 1, 0xA0000000) + bytes(1968 + 40)
    yield "ID3 in front", id3 + data
    yield "two ID3 in front", id3 + id3 + data
    yield "ID3v1 behind", data + b"TAG".ljust(128)
    yield "APE behind", data + ape[: 32 + 2000]
    yield "zeros behind", data + bytes(5000)
    yield "joined", data + data
    yield "joined with tags", id3 + data + b"TAG".ljust(128) + id3 + data
    yield "joined, second cut", data + data[: len(data) * 2 // 3]
    yield "without its first frame", data[first:]
    yield "joined without first frames", data[first:] + data[first:]
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.8):
        at = int(len(data) * share)
        yield f"noise put in at {share}", data[:at] + rng.bytes(1000) + data[at:]
        yield f"zeros put in at {share}", data[:at] + bytes(1000) + data[at:]
        yield f"1000 bytes lost at {share}", data[:at] + data[at + 1000 :]
        yield f"1000 bytes zero at {share}", data[:at] + bytes(1000) + data[at + 1000 :]
    frames = [i for i in range(len(data) - 1) if data[i : i + 2] == data[first : first + 2]][2:40:6]
    for at in frames:
        for bit in range(32):
            yield f"bit {bit} of the frame at {at}", flipped(data, at + bit // 8, 1 << bit % 8)
    for position in range(4, min(first, 200), 5):
        yield f"byte {position} of the first frame", flipped(data, position, 0x41)


# --- any file --------------------------------------------------------------------------------------------------------


def flipped(
    data: bytes,
    position: int,
    bits: int,  # Of that byte
) -> bytes:
    "The file with some bits of one byte turned."
    return data[:position] + bytes([data[position] ^ bits]) + data[position + 1 :]


def header_mutations(
    data: bytes,
    header: int,  # Bytes
    rng: np.random.Generator,
) -> Iterator[tuple[str, bytes]]:
    "Bits turned and numbers replaced in a header."
    for position in range(header):
        bit = int(rng.integers(8))
        yield f"bit {bit} of byte {position}", flipped(data, position, 1 << bit)
    for position in range(4, header - 4, 2):
        for value in (b"\0\0\0\0", b"\1\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"):
            if rng.random() < 0.25:
                yield f"{value.hex()} at {position}", data[:position] + value + data[position + 4 :]
    for size in range(1, header, 3):
        yield f"{size} bytes of it", data[:size]


def byte_mutations(
    data: bytes,
    rng: np.random.Generator,
    count: int = 12,
) -> Iterator[tuple[str, bytes]]:
    "Bits turned, ranges lost, zeroed, doubled and exchanged anywhere; cut off; with something behind."
    for _ in range(count):
        at, size = int(rng.integers(len(data) - 3000)), int(rng.integers(1, 1500))
        yield f"a bit at {at}", flipped(data, at, 1 << int(rng.integers(8)))
        yield f"{size} bytes lost at {at}", data[:at] + data[at + size :]
        yield f"{size} bytes zero at {at}", data[:at] + bytes(size) + data[at + size :]
        yield f"{size} bytes twice at {at}", data[: at + size] + data[at:]
        swapped = data[at + size : at + 2 * size] + data[at : at + size]
        yield f"{size} bytes exchanged at {at}", data[:at] + swapped + data[at + 2 * size :]
        yield f"cut at {at}", data[:at]
    yield "a byte less", data[:-1]
    yield "noise behind", data + rng.bytes(700)
    yield "zeros behind", data + bytes(700)


def mutations(
    name: str,  # Of the format, as in `sound_files`
    data: bytes,  # A whole file
    seed: int = 0,
    at_most: int | None = None,  # How many, drawn at random; all by default
) -> Iterator[tuple[str, bytes]]:  # What was done, and the file
    "Mutations of a sound file."
    found = list(all_mutations(name, data, seed))
    rng = np.random.default_rng([seed, 1, *name.encode()])
    chosen = range(len(found)) if at_most is None else sorted(rng.permutation(len(found))[:at_most])
    for i in chosen:
        yield found[i]


def all_mutations(
    name: str,
    data: bytes,
    seed: int,
) -> Iterator[tuple[str, bytes]]:
    "Each mutation that we know of, for one format."
    rng = np.random.default_rng([seed, *name.encode()])
    if name in ("ogg", "opus"):
        yield from ogg_mutations(data)
    elif name in ("mp3", "vbr", "plain"):
        yield from mp3_mutations(data)
    yield from header_mutations(data, 110, rng)
    yield from byte_mutations(data, rng)
