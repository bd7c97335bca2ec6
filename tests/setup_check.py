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
            print(f"setup: torchaudio's compiled extension does not load with this torch; removing {so.name}, which nothing here uses")
            so.unlink()
    for name in ("torch", "torchaudio", "nbdev", "musicmtl"):
        if (r := imports(name)).returncode: sys.exit(f"setup: `import {name}` fails:\n{r.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__": main()
