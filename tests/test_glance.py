"What a module defines is known without what it imports, and is what the module itself defines."

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import musicmtl.study
from musicmtl.glance import argument_in, glance
from musicmtl.study.registry import find_study, module_of, settings_of, studies, title_of
from musicmtl.study.settings import comments

LOADED = "import sys\nfrom musicmtl.study.{}\nprint('torch' in sys.modules)"


@pytest.mark.parametrize("study", studies())
def test_settings_at_a_glance_are_those_of_the_study(study):
    "Fields, types, defaults, kinds, comments, and what is refused."
    real, seen = find_study(study).settings, argument_in(module_of(study), "study", "settings")
    described = [
        [(of.name, of.type, of.default, dict(of.metadata)) for of in dataclasses.fields(settings)]
        for settings in (real, seen)
    ]
    assert described[0] == described[1] and comments(real) == comments(seen)
    assert repr(real()) == repr(seen())
    if "variants" in real.__dataclass_fields__:
        messages = []
        for settings in (real, seen):
            with pytest.raises(Exception, match="nonsense") as error:
                settings(variants=("nonsense",))
            messages.append(str(error.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("study", studies())
def test_a_loaded_study_is_asked_itself(study):
    whole = find_study(study)
    assert settings_of(study) is whole.settings and title_of(study) == whole.title


def test_only_what_is_asked_for_is_executed():
    experiment = glance("musicmtl.papers.agf.experiment")
    assert experiment is glance("musicmtl.papers.agf.experiment")
    with pytest.raises(AttributeError, match="defines no nonsense"):
        experiment.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="expected a module of musicmtl, found 'torch'"):
        glance("torch")
    with pytest.raises(LookupError, match="is given no colour"):
        argument_in("musicmtl.papers.agf.figures", "study", "colour")


@pytest.mark.parametrize(
    "words, loads",
    [("runs import main", "False"), ("settings import check_parameters", "False"), ("jobs import Job", "True")],
)
def test_a_module_of_the_study_layer_is_loaded_alone(words, loads):
    answer = subprocess.run([sys.executable, "-c", LOADED.format(words)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == loads


def test_the_study_layer_passes_on_what_its_source_says():
    "To type checkers and hashes by the imports in its source, to the interpreter by a list."
    body = ast.parse(Path(musicmtl.study.__file__).read_text()).body
    (lazy,) = [node for node in body if isinstance(node, ast.If)]
    assert [node.module for node in lazy.body] == musicmtl.study._PASSED_ON
    assert musicmtl.study.Study is musicmtl.study.skeleton.Study and "Study" in musicmtl.study.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        musicmtl.study.nonsense  # noqa: B018
