"""A notebook is read in a browser and reviewed as a diff: under 300 kB, pictures included."""

import sys
from pathlib import Path

LIMIT = 300_000  # Bytes


def too_large(
    files,  # Paths of notebooks
) -> list[str]:  # A line for each that is
    "Notebooks over the limit."
    sizes = {str(file): Path(file).stat().st_size for file in files}
    return [
        f"{file}: expected at most {LIMIT // 1000} kB, found {n // 1000} kB" for file, n in sizes.items() if n > LIMIT
    ]


if __name__ == "__main__":
    problems = too_large(sys.argv[1:])
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(bool(problems))
