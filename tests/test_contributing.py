"The code of CONTRIBUTING.md does what the page says; `tests/study/test_sixth.py` runs its paper."

import ast
import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
import yaml

from recipes import blocks, files_of, snippets_of, write_sixth

from musicmtl import loaders
from musicmtl.balance import Equal
from musicmtl.core import CorpusError, ParamsError
from musicmtl.learn import Items, MultiTask, fit
from musicmtl.tasks import regression

PAGE = "CONTRIBUTING.md"


def test_every_block_is_a_file_or_is_run():
    "Shell lines apart, nothing on the page escapes these tests."
    files, run = set(files_of(PAGE)), [*snippets_of(PAGE, "Add a corpus"), *snippets_of(PAGE, "Add a balancer")]
    for language, file, code in blocks(PAGE):
        assert language == "bash" or file in files or code in run, code
    assert len(run) == 4 and len(files) == 6


def test_the_files_of_the_paper_are_what_they_are_called(tmp_path):
    write_sixth(tmp_path)
    names = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")}
    assert names == {
        "sixth/__init__.py",
        "sixth/claims.yaml",
        "sixth/published.csv",
        "studies/sixth.ipynb",
        "studies/presets/sixth-smoke.yaml",
    }
    ast.parse((tmp_path / "sixth" / "__init__.py").read_text())
    assert list(yaml.safe_load((tmp_path / "sixth" / "claims.yaml").read_text())) == ["X1"]
    assert len(pd.read_csv(tmp_path / "sixth" / "published.csv")) == 2
    cells = json.loads((tmp_path / "studies" / "sixth.ipynb").read_text())["cells"]
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "papers.agf" not in code and "papers.sixth" in code


@pytest.fixture
def mixtapes(tmp_path, monkeypatch):
    "A corpus as the page describes it, its loader registered for this test."
    monkeypatch.setattr(loaders, "LOADERS", dict(loaders.LOADERS))
    rows = []
    for tape in ("blue", "red"):
        (tmp_path / tape).mkdir()
        for side in "ab":
            for number in range(1, 5):
                sf.write(tmp_path / tape / f"{side}{number}.wav", np.zeros(800, np.float32), 8000)
                rows.append((tape, side, number, f"singer {tape} {number}", ("folk", "rock")[number % 2]))
    table = pd.DataFrame(rows, columns=["tape", "side", "number", "singer", "genre"])
    table.to_csv(tmp_path / "mixtapes.tsv", sep="\t", index=False)
    scope = {"root": tmp_path}
    for code in snippets_of(PAGE, "Add a corpus"):
        exec(compile(code, PAGE, "exec"), scope)
    return scope


def test_a_corpus_is_loaded_by_name_and_its_options_are_checked(mixtapes):
    root, corpus = mixtapes["root"], mixtapes["corpus"]
    assert len(corpus) == 8 and corpus.name == "mixtapes" and all(corpus.path(row).is_file() for row in range(8))
    assert len(loaders.load_corpus("mixtapes", root)) == 16 and corpus.labels("genre").classes == ("folk", "rock")
    with pytest.raises(ParamsError, match="corpus 'mixtapes' has no option 'tape'; it knows side"):
        loaders.load_corpus("mixtapes", root, tape="red")
    with pytest.raises(ParamsError, match="side: expected"):
        loaders.load_corpus("mixtapes", root, side=1)
    with pytest.raises(ParamsError, match="corpus 'mixtapes' needs the folder that holds it"):
        loaders.load_corpus("mixtapes")


def test_a_corpus_names_what_is_wrong(mixtapes):
    table = mixtapes["root"] / "mixtapes.tsv"
    table.write_text(table.read_text().replace("blue\ta\t2", "blue\ta\t1"))
    with pytest.raises(CorpusError, match=r"mixtapes.tsv: row 1 .*'blue-a1'.*expected a track_id of its own"):
        loaders.load_corpus("mixtapes", mixtapes["root"])
    table.unlink()
    with pytest.raises(CorpusError, match="no metadata, expected .*mixtapes.tsv"):
        loaders.load_corpus("mixtapes", mixtapes["root"])


@pytest.fixture
def balance():
    scope = {}
    for code in snippets_of(PAGE, "Add a balancer"):
        exec(compile(code, PAGE, "exec"), scope)
    return scope


def test_a_balancer_weighs_the_gradients_of_one_backward_pass(balance):
    log, encoder, losses = balance["log"], balance["encoder"], balance["losses"]
    weights = log["weights"]
    assert weights.sum().item() == pytest.approx(3) and (weights > 0).all() and weights.std() > 0.01
    assert log["total"].item() == pytest.approx((weights * losses.detach()).sum().item())
    heads, (x, y) = balance["heads"], (balance["x"], balance["y"])
    again = torch.stack([(head(encoder(x)) - target).square().mean() for head, target in zip(heads, y, strict=True)])
    (expected,) = torch.autograd.grad((weights.float() * again).sum(), encoder.weight)
    torch.testing.assert_close(encoder.weight.grad, expected)


def test_a_balancer_goes_on_where_it_was_saved(balance):
    kind = balance["RandomWeights"]
    one, two = kind(3, seed=5), kind(3, seed=6)
    one.update(torch.ones(3))
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        assert torch.equal(one.update(torch.ones(3)), two.update(torch.ones(3)))
    with pytest.raises(ParamsError, match="expected the keys"):
        two.load_state_dict({})
    assert repr(one) == "RandomWeights(3, seed=5)"


class Net(torch.nn.Module):
    "Two heads on one layer."

    def __init__(self):
        super().__init__()
        self.layer, self.outs = torch.nn.Linear(4, 3), torch.nn.ModuleList(torch.nn.Linear(3, 1) for _ in range(2))
        self.shared_weight = self.layer.weight

    def shared(self, x):
        return self.layer(x)

    def heads(self, views):
        return [out(h) for out, h in zip(self.outs, views, strict=True)]


def test_a_balancer_trains_a_network(balance, tmp_path):
    "`MultiTask` takes it as it takes its own."
    x = torch.randn(16, 4)
    data = Items(x, [x[:, :1], x[:, 1:2]])
    tasks = [regression("one", 1), regression("two", 1)]
    for balancer, moves in ((balance["RandomWeights"](2), True), (Equal(2), False)):
        module = MultiTask(Net(), tasks, balancer, lr=0.01)
        fit(module, data, epochs=3, batch_size=8, root=tmp_path / repr(balancer), device="cpu")
        assert (module.history.weight.std() > 0.01) == moves
        assert module.history.groupby("step").weight.sum().round(5).eq(2).all()
