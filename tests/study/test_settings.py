"The strict door: what a study's parameters may be, and what follows from them."

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import ParamsError, RunError, repo_root
from musicmtl.study import (
    CommonSettings,
    check,
    find_study,
    neutral,
    parameter_cell,
    parameters,
    resolve,
    run_id,
    training_id,
    which,
)

NOTEBOOKS = sorted((repo_root() / "nbs" / "studies").glob("*.ipynb"))


@dataclass(frozen=True)
class Settings:
    kind: Literal["a", "b"] = "a"
    n: int = 1
    x: float | None = None
    names: tuple[str, ...] = ()
    deep: bool = False
    preset: str = which("smoke")
    n_jobs: int = neutral(2)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"m": 1}, "unknown name 'm'; there are kind, n, x, names, deep, preset"),
        ({"n": 1.5}, "n must be a whole number, found 1.5"),
        ({"n": True}, "n must be a whole number, found True"),
        ({"x": "1"}, "x must be a number or nothing, found '1'"),
        ({"x": False}, "x must be a number or nothing, found False"),
        ({"kind": "c"}, "kind must be one of 'a', 'b', found 'c'"),
        ({"names": ["a", 1]}, r"names must be a list of a text, found \['a', 1\]"),
        ({"names": "ab"}, "names must be a list of a text, found 'ab'"),
        ({"deep": 1}, "deep must be True or False, found 1"),
        ({"preset": None}, "preset must be a text, found None"),
    ],
)
def test_wrong_parameters_get_one_sentence(values, message):
    with pytest.raises(ParamsError, match=message) as error:
        check(Settings, values)
    assert "\n" not in str(error.value)


valid = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from("ab"),
        "n": st.integers(),
        "x": st.none() | st.floats(allow_nan=False) | st.integers(-9, 9),
        "names": st.lists(st.text("ab", max_size=3), max_size=3),
        "deep": st.booleans(),
    },
)


@given(valid)
def test_what_fits_is_taken_as_it_is(values):
    settings = check(Settings, values)
    expected = {**asdict(Settings()), **values}
    assert asdict(settings) == {**expected, "names": tuple(expected["names"])}
    assert type(settings.x) in (float, type(None)) and check(Settings, asdict(settings)) == settings


def test_presets_fill_in_and_what_is_given_wins(tmp_path):
    (tmp_path / "s-mini.yaml").write_text("n: 5\nx: 2\nnames: [u]\n")
    settings = resolve(Settings, "s", {"preset": "mini", "n": 7, "x": None}, tmp_path)
    assert settings == Settings(n=7, x=2.0, names=("u",), preset="mini")
    (tmp_path / "s-empty.yaml").write_text("# as the class has it\n")
    assert resolve(Settings, "s", {"preset": "empty"}, tmp_path) == Settings(preset="empty")


def test_a_wrong_preset_is_named(tmp_path):
    (tmp_path / "s-bad.yaml").write_text("m: 5\n")
    with pytest.raises(ParamsError, match="preset s-bad: unknown name 'm'"):
        resolve(Settings, "s", {"preset": "bad"}, tmp_path)
    with pytest.raises(ParamsError, match="preset must be one of bad, found 'smoke'"):
        resolve(Settings, "s", {}, tmp_path)


def test_a_run_is_named_by_what_can_change_its_results():
    settings = Settings()
    assert run_id("s", settings) == run_id("s", replace(settings, n_jobs=8)) != run_id("s", replace(settings, n=2))
    assert run_id("s", settings) != run_id("t", settings)
    assert run_id("s", settings) != run_id("s", replace(settings, preset="mini"))


def test_networks_are_shared_by_runs_that_train_in_the_same_way():
    settings = Settings()
    same = replace(settings, preset="mini", n_jobs=8)
    assert training_id(settings) == training_id(same) != training_id(replace(settings, x=0.1))


def test_protocols_and_seeds_of_the_common_settings():
    both, one = CommonSettings(), CommonSettings(protocol="published", seed=3)
    assert both.wants("published") and both.wants("corrected") and both.main_protocol == "corrected"
    assert one.wants("published") and not one.wants("corrected") and one.main_protocol == "published"
    assert list(one.seed_range(2)) == [3, 4]


def write_notebook(file, *cells):
    "A notebook with code cells tagged `parameters`."
    tagged = [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": cell} for cell in cells]
    file.write_text(json.dumps({"cells": [{"cell_type": "markdown", "metadata": {}, "source": "#"}, *tagged]}))
    return file


def test_the_parameters_cell_is_read_with_its_comments(tmp_path):
    notebook = write_notebook(tmp_path / "s.ipynb", 'n: int = None  # how many\nkind = "a"\n')
    assert parameter_cell(notebook) == {"n": "how many", "kind": ""}
    for cells in ((), ("n = 1", "m = 2")):
        with pytest.raises(RunError, match=f"expected one cell tagged `parameters`, found {len(cells)}"):
            parameter_cell(write_notebook(tmp_path / "s.ipynb", *cells))


def test_a_notebooks_names_are_its_parameters():
    "Modules, functions and what IPython keeps are none; a plain value with an unknown name is refused."
    scope = {"preset": "smoke", "seed": 5, "json": json, "In": [""], "Out": {}, "_i1": "x", "test": parameters}
    assert parameters(find_study("agf").settings, "agf", scope).seed == 5
    with pytest.raises(ParamsError, match="unknown name 'sede'"):
        parameters(find_study("agf").settings, "agf", {**scope, "sede": 1})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_study_notebooks_keep_their_shape(notebook):
    "A parameters cell of at most a dozen names with comments, all of them settings; presets that resolve; no logic."
    names, settings = parameter_cell(notebook), find_study(notebook.stem).settings
    assert 0 < len(names) <= 12 and all(names.values())
    assert set(names) <= set(settings.__dataclass_fields__)
    files = (notebook.parent / "presets").glob(f"{notebook.stem}-*.yaml")
    presets = {file.stem.rpartition("-")[2] for file in files}
    assert {"smoke", "mini"} <= presets
    for preset in presets:
        assert resolve(settings, notebook.stem, {"preset": preset}).preset == preset
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not any(line.startswith(("def ", "class ", "if ", "while ")) for line in cell["source"])
