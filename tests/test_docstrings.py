"help() says what the comments behind parameters say, and its examples run."

import doctest
import importlib
import inspect
import io
import pkgutil
import pydoc
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
from fastcore.docments import docments

import musicmtl
from musicmtl import docstrings

MODULES = sorted(
    name
    for _, name, is_package in pkgutil.walk_packages(musicmtl.__path__, "musicmtl.")
    if not is_package and name.rpartition(".")[2][0] != "_"
)
CORE = "audio balance features learn metrics musicnn pitch tasks"
PAPERS = "agf artist_language lstm_ensemble pase tagging"
PIECES = "pase.encoder tagging.metric tagging.tagger"
WITH_EXAMPLES = {
    *(f"musicmtl.{name}" for name in CORE.split()),
    *(f"musicmtl.papers.{name}.model" for name in PAPERS.split()),
    *(f"musicmtl.papers.{name}" for name in PIECES.split()),
}


def public(module):
    "Functions that a module defines and offers."
    found = (getattr(module, name) for name in getattr(module, "__all__", ()))
    return [thing for thing in found if inspect.isfunction(thing) and thing.__module__ == module.__name__]


@pytest.mark.parametrize("name", MODULES)
def test_a_docstring_has_every_comment_that_fastcore_finds(name):
    for function in public(importlib.import_module(name)):
        if not inspect.getsource(function).startswith("def"):
            continue  # decorated: fastcore reads what is inside
        doc = function.__doc__ or ""
        for parameter, words in docments(function).items():
            if words and parameter != "return":
                assert f"{parameter} : " in doc or f"{parameter}\n" in doc, (function, parameter)
            if words:
                assert " ".join(words.split()).removeprefix("-> ") in " ".join(doc.split()), (function, parameter)


@pytest.mark.parametrize("name", sorted(WITH_EXAMPLES))
def test_examples_run(name):
    "As they stand: each imports what it names."
    module, runner = importlib.import_module(name), doctest.DocTestRunner()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs={}):
        runner.run(example)
    result = runner.summarize()
    assert result.attempted and not result.failed


def test_modules_with_examples_are_all_run():
    found = {
        name
        for name in MODULES
        if any(
            "Examples\n" in (thing.__doc__ or "")
            for thing in vars(importlib.import_module(name)).values()
            if getattr(thing, "__module__", None) == name
        )
    }
    assert found == WITH_EXAMPLES


def test_help_names_what_initial_accepts():
    from musicmtl.balance import GradNorm

    with redirect_stdout(io.StringIO()) as out:
        pydoc.Helper(output=out).help(GradNorm)
    text = out.getvalue()
    for word in ('"epoch"', '"first"', '"log_classes"', '"ema"', "default 0.5", "Strength of the pull"):
        assert word in text


def test_a_field_shows_its_default_whatever_made_it():
    from musicmtl.study import CommonSettings

    assert "protocol : Literal['published', 'corrected', 'both'], default 'both'" in CommonSettings.__doc__


def test_examples_stay_behind_the_parameters():
    from musicmtl.balance import backward

    places = [backward.__doc__.index(word) for word in ("Parameters\n", "Returns\n", "Examples\n")]
    assert places == sorted(places)


def test_a_module_run_as_a_program_and_one_imported_again_are_documented_once():
    code = "import importlib, musicmtl.core as c; importlib.reload(c); print(c.stable_hash.__doc__.count('Parameters'))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "1"
    )


def test_a_comment_without_a_parameter_is_nobodys():
    source = """
def f(a, b):  # both [N]
    "Words."
    c = a  # not of the signature
    return c

def g(
    # a line of its own
    a,
    b=1,  # one
):
    "More."
"""
    module = type(docstrings)("made")
    exec(source, vars(module))
    docstrings.document(module, source)
    assert module.f.__doc__ == "Words.\n\nParameters\n----------\na\nb\n\nReturns\n-------\nboth [N]"
    assert module.g.__doc__ == "More.\n\nParameters\n----------\na\nb : default 1\n    one"
