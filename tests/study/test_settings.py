"The strict door: what a study's parameters may be, and what follows from them."

import json
import re
import typing
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import CorpusError, ParamsError, RunError, repo_root
from musicmtl.study import (
    comments,
    CommonSettings,
    check,
    describe,
    find_study,
    neutral,
    parameter_cell,
    parameters,
    place,
    read_given,
    resolve,
    run_id,
    studies,
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


def test_a_cluster_and_several_devices_exclude_each_other(tmp_path):
    (tmp_path / "s-mini.yaml").write_text("{}")
    given = {"preset": "mini", "cluster": "tcp://host:8786"}
    assert resolve(CommonSettings, "s", given, tmp_path).cluster
    for more in ({"devices": 2}, {"num_nodes": 2}):
        with pytest.raises(ParamsError, match="give one or the other"):
            resolve(CommonSettings, "s", given | more, tmp_path)


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
    "Modules, functions, what IPython keeps and what readers have are none; an unknown name from papermill is refused."
    cell = "\n".join(f"{name} = None" for name in parameter_cell(NOTEBOOKS[0]))
    scope = {"preset": "smoke", "seed": 5, "json": json, "Out": {}, "_i1": "x", "test": parameters, "lr": "mine"}
    scope |= {"In": ["", cell, "seed = 5"], "sede": 1}
    settings = find_study("agf").settings
    assert parameters(settings, "agf", scope).seed == 5 and parameters(settings, "agf", scope).lr == 0.003
    scope["In"] = ["", cell, "# Parameters\nseed = 5\nlr = 0.1\n"]
    assert parameters(settings, "agf", {**scope, "lr": 0.1}).lr == 0.1
    scope["In"] = ["", cell, "# Parameters\nsede = 1\n", "%time seed = 3"]
    with pytest.raises(ParamsError, match="unknown name 'sede'"):
        parameters(settings, "agf", scope)
    scope["In"] += [cell, "settings"]  # run again, from the top
    assert parameters(settings, "agf", scope).seed == 5


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_the_first_cells_of_a_study_can_be_run_twice(notebook):
    "With variables of the reader's in between, some of them called as settings are."
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    parameters_cell, *others = ("".join(cell["source"]) for cell in cells[:3])
    settings_cell = "\n".join(others)
    scope = {"__name__": "__main__"}
    exec(parameters_cell, scope)
    exec(settings_cell, scope)
    first = scope["settings"]
    own = {"BLOCKS": (2, 3), "mine": "x", "lr": 7.0, "seeds": [1, 2], "epochs": {}, "variants": None, "x": float("nan")}
    scope |= own | {"seed": 99, "corpus": "folder", "data": first, "size": str}
    exec(parameters_cell, scope)
    exec(settings_cell, scope)
    assert scope["settings"] == first and scope["mine"] == "x"


TEXTS = [
    ("kind", "b", "b"),
    ("n", "3", 3),
    ("x", "1e-3", 1e-3),
    ("x", "2", 2.0),
    ("x", "None", None),
    ("names", "a,b", ("a", "b")),
    ("names", "['a', \"b, c\"]", ("a", "b, c")),
    ("names", "(007, no)", ("007", "no")),
    ("names", "", ()),
    ("names", 7, ("7",)),  # papermill makes a number of it
    ("numbers", "0.5", (0.5,)),
    ("numbers", 0.5, (0.5,)),
    ("numbers", "[1, 1e-2]", (1.0, 0.01)),
    ("choice", "10", 10),
    ("choice", "both", "both"),
    ("deep", "true", True),
    ("deep", "False", False),
    ("word", "2024", "2024"),
    ("word", 2024, "2024"),
    ("word", "-1e3", "-1e3"),
    ("word", "none", "none"),
    ("word", "$HOME 'and' \"more\"", "$HOME 'and' \"more\""),
]


@dataclass(frozen=True)
class Asked(Settings):
    numbers: tuple[float, ...] = ()
    choice: Literal[10, 25, "both"] = "both"
    word: str | None = None
    root: str | None = place()
    corpus: Literal["miniature", "folder"] = "miniature"


@pytest.mark.parametrize("name, text, value", TEXTS)
def test_text_is_read_as_the_declared_type_wants_it(name, text, value):
    found = read_given(Asked, "s", {name: text})[name]
    assert found == value and type(found) is type(value)
    assert read_given(Asked, "s", {name: found if found is not None else "none"})[name] == value  # read twice: the same


@given(valid)
def test_what_was_written_as_text_comes_back(values):
    texts = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in values.items()}
    texts = {name: text for name, text in texts.items() if text not in ("inf", "-inf")}
    expected = asdict(check(Asked, {name: values[name] for name in texts}))
    assert read_given(Asked, "s", texts) == {name: expected[name] for name in texts}


@pytest.mark.parametrize(
    "name, text",
    [("n", "1.5"), ("n", "1e3"), ("n", ""), ("n", True), ("x", "nan"), ("x", "1e999"), ("x", ""), ("deep", "maybe")]
    + [("kind", "A"), ("names", "{a: 1}"), ("names", "[a, [b]]"), ("names", "a,,b"), ("numbers", "1,x")]
    + [
        ("word", 1.5),
        ("word", True),
        ("choice", "11"),
        ("root", ""),
        ("root", "~nobody-of-that-name/x"),
        ("root", "\udce9"),
    ],
)
def test_text_that_cannot_be_read_so_gets_one_sentence(name, text):
    with pytest.raises(ParamsError, match=f"parameters: {name} must") as error:
        read_given(Asked, "s", {name: text})
    assert "\n" not in str(error.value)


def test_places_are_those_that_the_caller_sees(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    places = {"music": "music", "2024": "2024", "-music": "-music", "~/Music": "home/Music", "My $Music": "My $Music"}
    for text, expected in places.items():
        assert read_given(Asked, "s", {"root": text}) == {"root": str(tmp_path / expected)}
    assert read_given(Asked, "s", {"root": 2024, "word": "music"}) == {"root": str(tmp_path / "2024"), "word": "music"}


def test_a_root_without_a_corpus_is_a_folder_of_music(tmp_path):
    (tmp_path / "s-smoke.yaml").write_text("n: 5\n")
    (tmp_path / "s-paper.yaml").write_text("corpus: miniature\n")
    corpora = [{}, {"root": "m"}, {"root": "m", "corpus": "miniature"}, {"root": "m", "preset": "paper"}]
    found = [resolve(Asked, "s", given, tmp_path).corpus for given in corpora]
    assert found == ["miniature", "folder", "miniature", "miniature"]
    for study in studies():
        settings = find_study(study).settings
        if study == "agf_truth":
            with pytest.raises(ParamsError, match="agf_truth takes no folder of music"):
                resolve(settings, study, {"root": "/music"})
        else:
            assert resolve(settings, study, {"root": "/music"}).corpus == "folder"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"seeds": 0}, "seeds must be 1 or more, found 0"),
        ({"batch_size": "-8"}, "batch_size must be 1 or more, found -8"),
        ({"seed": -1}, "seed must be 0 or more, found -1"),
        ({"lr": "-1e-3"}, "lr must be 0 or more, found -0.001"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be 1 or more, found 0"),
        ({"n_jobs": 0}, "n_jobs must be 1 or more, found 0"),
        ({"alphas": "1,-1"}, "alphas must be 0 or more, found -1.0"),
        ({"variants": "equal,equal"}, "variants must name everything once, found equal, equal"),
        ({"variants": ""}, "variants must name at least one"),
        ({"variants": "equal,gradnrom"}, "variants: expected some of single_task, .*, found 'gradnrom'"),
        ({"side_variants": "equal_windows_x"}, "side_variants: expected some of .*, found 'equal_windows_x'"),
    ],
)
def test_impossible_numbers_and_lists_are_refused(values, message):
    with pytest.raises(ParamsError, match=message):
        resolve(find_study("agf").settings, "agf", values)


def test_nothing_can_be_asked_for_whatever_the_preset_says():
    settings = find_study("agf").settings
    for asked in ({}, {"steps_per_epoch": None}):
        assert resolve(settings, "agf", asked).steps_per_epoch == 3
    assert resolve(settings, "agf", {"steps_per_epoch": "none", "n_jobs": "-1"}).steps_per_epoch is None


@pytest.mark.parametrize("study", studies())
def test_every_setting_is_listed_and_can_be_given(study):
    settings = find_study(study).settings
    text, presets = describe(settings, study), ("smoke", "mini")
    resolved = {preset: resolve(settings, study, {"preset": preset}) for preset in presets}
    for name in settings.__dataclass_fields__:
        assert f"\n  {name}: " in f"\n{text}", name
        for preset in presets:
            value = getattr(resolved[preset], name)
            text_of_value = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            given = {"preset": preset} | ({} if value is None else {name: text_of_value})
            assert resolve(settings, study, given) == resolved[preset], name


def test_a_torn_preset_gets_one_sentence(tmp_path):
    for text in ("n: [1", "- 1\n", "n: 1\n\tx", "n: 1\nn: 1\n"):
        (tmp_path / "s-smoke.yaml").write_text(text)
        with pytest.raises(ParamsError, match="preset s-smoke: ") as error:
            resolve(Settings, "s", {}, tmp_path)
        assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_papermills_help_explains_every_parameter_and_says_where_the_others_are(notebook):
    "The cell has words for each; every choice and every preset is named, and the command for the rest."
    from papermill.inspection import inspect_notebook

    settings, shown = find_study(notebook.stem).settings, inspect_notebook(str(notebook))
    kinds = typing.get_type_hints(settings)
    assert list(shown) == list(parameter_cell(notebook)) and all(one["help"] for one in shown.values())
    for name, one in shown.items():
        choices = {text for text in re.findall(r"'(\w+)'", str(kinds[name])) if typing.get_args(kinds[name])}
        assert choices - {"auto"} <= set(re.findall(r"\w+", one["help"])), name
    presets = {file.stem.partition("-")[2] for file in (notebook.parent / "presets").glob(f"{notebook.stem}-*.yaml")}
    assert presets == presets & set(re.findall(r"\w+", shown["preset"]["help"]))
    command = f"python -m musicmtl.runs {notebook.stem} --help"
    assert any(one["help"].endswith(command) for one in shown.values())
    text = describe(settings, notebook.stem)
    assert all(f"      {words}" in text for words in comments(settings).values())


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_says_what_is_wrong_before_it_loads_its_study(notebook, tmp_path):
    "The cells up to the first that imports the study, as plain papermill runs them."
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    own, checks, imports = ("".join(cell["source"]) for cell in cells[:3])
    assert "musicmtl.papers" not in own + checks and "musicmtl.papers" in imports
    injected = "# Parameters\nsede = 1\n"
    scope = {"In": ["", own, injected]}
    exec(own + "\n" + injected, scope)
    with pytest.raises(ParamsError, match="unknown name 'sede'"):
        exec(checks, scope)
    injected = f"# Parameters\nroot = {str(tmp_path / 'nowhere')!r}\n"
    if "root" in parameter_cell(notebook):
        scope = {"In": ["", own, injected]}
        exec(own + "\n" + injected, scope)
        with pytest.raises(CorpusError, match="nowhere does not exist"):
            exec(checks, scope)
