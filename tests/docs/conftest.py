"The site that `make docs` builds, built once for all of its tests."

import subprocess
import sys

import pytest

from musicmtl.core import repo_root


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    "Folder of the site."
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "nbs/docs/make_docs.py", "--out", folder / "site", "--work", folder / "work"]
    answer = subprocess.run([*map(str, command)], cwd=repo_root(), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr  # warnings are errors
    return folder / "site"
