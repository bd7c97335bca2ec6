"""Hashes of the code behind a result: what changes them, and what does not."""

import textwrap

import pytest

from musicmtl.study import find_study, main_studies, provenance
from musicmtl.study.provenance import code_hash, reached, row_code, training_code


@pytest.fixture
def project(tmp_path, monkeypatch):
    "Two modules of a package `musicmtl.paper`; `write(name, text)` changes one."
    modules = {}

    def write(name, text):
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(text))
        modules[f"musicmtl.paper.{name}"] = provenance._Module(f"musicmtl.paper.{name}", file)
        provenance._definition.cache_clear()

    def hashed(*roots):
        sources = reached([("musicmtl.paper.jobs", name) for name in roots])
        return {(module.rpartition(".")[2], name): text for (module, name), text in sources.items()}

    monkeypatch.setattr(provenance, "_module", modules.get)
    write("parts", "A = 3\ndef used(x):\n    return x * A\ndef other(x):\n    return x\n")
    write(
        "jobs",
        """
        from musicmtl.paper.parts import used
        class Kind:
            def grow(self):
                return used(2)
        def train(kind: Kind):
            "What it does."
            return kind.grow()
        """,
    )
    return write, hashed


def test_what_a_training_can_reach_is_followed_through_classes_and_imports(project):
    _, hashed = project
    assert {("jobs", "train"), ("jobs", "Kind"), ("parts", "used"), ("parts", "A")} <= set(hashed("train"))
    assert ("parts", "other") not in hashed("train")


@pytest.mark.parametrize(
    "text",
    [
        "A = 3  # three\ndef used(x):\n    'Doc.'\n    return x * A\ndef other(x):\n    return x\n",
        "A = 3\ndef used(x):\n    return x * A\ndef other(x):\n    return x + 1\n",
        "A = 3\ndef used(x):\n    if x < 1:\n        raise ParamsError('x')\n    return x * A\n"
        "def other(x):\n    return x\n",
    ],
    ids=["comments and docstrings", "what nobody calls", "checks of what a caller gives"],
)
def test_what_changes_no_number_changes_no_hash(project, text):
    write, hashed = project
    before = hashed("train")
    write("parts", text)
    assert hashed("train") == before


@pytest.mark.parametrize(
    "text",
    [
        "A = 4\ndef used(x):\n    return x * A\n",
        "A = 3\ndef used(x):\n    return x * A + 1\n",
        "A = 3\ndef used(x):\n    return x * A\nprint('effect')\n",
        "A = 3\ndef used(x):\n    if x < 1:\n        raise CorpusError('x')\n    return x * A\n",
        "A = 3\ndef used(x):\n    if x < 1:\n        x = 1\n        raise ParamsError('x')\n    return x * A\n",
        "A = 3\ndef used(x):\n    if (x := x + 1) < 1:\n        raise ParamsError('x')\n    return x * A\n",
        "A = 3\ndef used(x):\n    if x < 1:\n        raise ParamsError('x')\n    else:\n        x = 1\n"
        "    return x * A\n",
    ],
    ids=["a constant", "a function", "an effect", "a song left out", "more than a check", "a check's name", "or else"],
)
def test_what_can_change_a_number_changes_the_hash(project, text):
    write, hashed = project
    before = hashed("train")
    write("parts", text)
    assert hashed("train") != before


def test_methods_that_are_added_to_a_class_count(project):
    write, hashed = project
    write("parts", "from fastcore.basics import patch\nfrom musicmtl.paper.jobs import Kind\nA = 3\n"
          "def used(x):\n    return x\n@patch\ndef more(self: Kind):\n    return A\n")  # fmt: skip
    assert any(name is None and "more" in text for (_, name), text in hashed("train").items())


def test_every_study_has_a_hash_that_reaches_its_networks_and_balancers():
    for name in main_studies():
        package = find_study(name).prepare.__module__.rpartition(".")[0]
        assert len(training_code(package)) == 6 and find_study(name).code.startswith(training_code(package))
        modules = {module for module, _ in reached([(f"{package}.experiment", "prepare")])}
        assert "musicmtl.features" in modules or "musicmtl.corpus" in modules
    assert not any(module.startswith("musicmtl.viz") for module in modules)


def test_rows_say_where_trainings_differ():
    assert row_code(["a"], "s") == "a-s" and row_code(["a", "b"], "s") == "mixed-s" and row_code([], "s") == "none-s"
    assert code_hash() == code_hash()
