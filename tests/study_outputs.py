"""Fill a study notebook with the outputs of a run, small enough to be read as a diff.

`python tests/study_outputs.py agf artist_language` takes each study's newest finished run of preset mini on Miniature
below runs/ (or $MUSICMTL_RUNS): outputs go to the cells of the same id, and the parameters stay as they are. Where a
study draws more pictures than fit, cells keep their first ones, and of the others name and caption.
"""

import argparse
import base64
import io
import itertools
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from PIL import Image

from gate import program
from notebook_size import LIMIT

from musicmtl.core import ParamsError, RunError, repo_root

# Scale and colours of a picture, the best first, and what all pictures of a notebook may have, each: bytes.
LOOKS = [(1.0, 64), (0.85, 48), (0.75, 32), (0.65, 32), (0.55, 32), (0.5, 32), (0.45, 32), (0.4, 24), (0.4, 12)]
SHARES = [32_000, 24_000, 20_000, 17_000, 14_000, 12_000, 10_000, 9_000]
PER_CELL = [99, 2, 1]  # Pictures that a cell may keep, the most that fit


@cache
def smaller(
    png: str,  # base64
    scale: float,  # Of width and height
    colours: int,  # Of the palette
) -> str:  # base64
    "A picture with fewer pixels and colours."
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image = image.resize([max(1, round(scale * side)) for side in image.size], Image.Resampling.HAMMING)
    file = io.BytesIO()
    how = dict(method=Image.Quantize.MAXCOVERAGE, kmeans=3)  # without k-means, text takes a colour of the points
    few = image.quantize(colours, dither=Image.Dither.NONE, **how)
    few.save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def within(
    png: str,  # base64
    most: int,  # Bytes of base64
) -> str:  # base64
    "The best look of a picture that is no larger; the smallest where none is."
    looks = (smaller(png, *look) for look in LOOKS)
    for small in looks:
        if len(small) <= most:
            break
    return small


def kept(
    outputs: list,  # Of a cell
    most: int,  # Bytes of a picture
    pictures: int = PER_CELL[0],  # How many; of the others only the name is left
) -> list:
    "Outputs without warnings and counters, pictures small."
    found = []
    for output in outputs:
        if output.get("name") == "stderr" or output["output_type"] == "error":
            continue
        output = {key: value for key, value in output.items() if key != "execution_count"}
        if output["output_type"] == "execute_result":
            output["execution_count"] = None
        if "image/png" in output.get("data", {}) and (pictures := pictures - 1) < 0:
            output = {**output, "data": {kind: data for kind, data in output["data"].items() if kind != "image/png"}}
        elif "image/png" in output.get("data", {}):
            small = within("".join(output["data"]["image/png"]).replace("\n", ""), most)
            output = {**output, "data": {**output["data"], "image/png": small}}
        found.append(output)
    return found


def filled(
    notebook: dict,
    executed: dict,  # The same after a run
    most: int = SHARES[0],  # Bytes of a picture
    pictures: int = PER_CELL[0],  # Of a cell
) -> dict:
    "The notebook with the outputs of the cells of the same id. Raises `ParamsError` where one was not run."
    outputs = {cell.get("id"): cell["outputs"] for cell in executed["cells"] if cell["cell_type"] == "code"}
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            if cell["id"] not in outputs:
                raise ParamsError(
                    f"cell {cell['id']}: expected it in the executed notebook, found a run of other cells"
                )
            cell = {**cell, "execution_count": None, "outputs": kept(outputs[cell["id"]], most, pictures)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def fill(
    notebook: Path,
    executed: Path,  # The same after a run
    limit: int = LIMIT,  # Bytes
) -> int:  # Bytes that each picture may have
    "Write the outputs of a run into a notebook. Raises `ParamsError` where they do not fit even as small pictures."
    plain, ran = json.loads(notebook.read_text(encoding="utf-8")), json.loads(executed.read_text(encoding="utf-8"))
    for pictures, most in itertools.product(PER_CELL, SHARES):
        text = json.dumps(filled(plain, ran, most, pictures), indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) <= limit:
            notebook.write_text(text, encoding="utf-8")
            return most
    size = len(text.encode()) // 1000
    raise ParamsError(
        f"{notebook.name}: expected at most {limit // 1000} kB, found {size} kB, its pictures at their smallest"
    )


def newest(
    folder: Path,  # Of a study's runs
    preset: str = "mini",
) -> Path:
    "The executed notebook of the newest finished run of a preset on Miniature. Raises `RunError` where there is none."
    found = {}
    for file in folder.glob("*/manifest.json"):
        manifest = json.loads(file.read_text(encoding="utf-8"))
        asked, executed = manifest.get("parameters", {}), file.with_name("executed.ipynb")
        of_miniature = (asked.get("preset"), asked.get("corpus")) == (preset, "miniature")
        if of_miniature and manifest.get("status") == "done" and executed.exists():
            found[executed] = executed.stat().st_mtime
    if not found:
        raise RunError(
            f"{folder}: expected a finished run of preset {preset}; `make study STUDY={folder.name}` makes one"
        )
    return max(found, key=found.get)


def main(argv=None) -> int:  # Exit status
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--preset", default="mini")
    asked = parser.parse_args(argv)
    runs = Path(os.environ.get("MUSICMTL_RUNS") or repo_root() / "runs")
    for study in asked.studies:
        try:
            notebook = repo_root() / "nbs" / "studies" / f"{study}.ipynb"
            most = fill(notebook, newest(runs / study, asked.preset))
        except (ParamsError, RunError) as error:
            print(f"{study}: {error}", file=sys.stderr)
            return 2
        subprocess.run([program("nbdev_clean"), "--fname", str(notebook)], check=True)
        size = notebook.stat().st_size // 1000
        print(f"{study}: {size} kB, pictures of up to {most // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
