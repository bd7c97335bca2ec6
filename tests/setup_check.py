"""Last step of `make setup`: what was installed imports.

torch and torchaudio come as separate builds. Where only a CPU build of torch is installed, torchaudio's compiled
extension (a CUDA build) cannot load and its import fails; nothing in musicmtl needs it, so that one file is removed.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path


def imports(name):
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True)


def main():
    if imports("torchaudio").returncode:
        spec = importlib.util.find_spec("torchaudio")
        for so in Path(spec.submodule_search_locations[0]).glob("lib/_torchaudio*"):
            why = "torchaudio's compiled extension does not load with this torch, and nothing here uses it"
            print(f"setup: {why}; removing {so.name}")
            so.unlink()
    for name in ("torch", "torchaudio", "nbdev", "musicmtl"):
        if (r := imports(name)).returncode:
            sys.exit(f"setup: `import {name}` fails:\n{r.stderr.strip().splitlines()[-1]}")


def compile_librosa():
    "Let numba compile what librosa needs, in one process: several at the same time spoil each other's cache."
    code = (
        "import librosa, numpy as np\n"
        "y = np.sin(np.arange(22050.)*.1)*(np.arange(22050) % 5000 < 2500)\n"
        "librosa.onset.onset_detect(y=y, backtrack=True); librosa.pyin(y, fmin=80, fmax=400)"
    )
    if (r := subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)).returncode:
        sys.exit(f"setup: librosa does not work:\n{r.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
    compile_librosa()
