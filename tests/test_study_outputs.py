"Outputs of a run in a study notebook: those of its cells, small, the parameters as they were."

import base64
import copy
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from study_outputs import SHARES, fill, filled, newest, within

from musicmtl.core import ParamsError, RunError


def png(side=300):
    "A picture of noise, which no format makes small."
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def code(name, source, outputs=(), tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "execution_count": None,
        "outputs": list(outputs),
        "source": [source],
    }


@pytest.fixture
def both():
    "A notebook, and the same as papermill leaves it."
    plain = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
    plain["cells"] = [code("aa", "preset = 'smoke'", tags=["parameters"]), code("bb", "1"), code("cc", "show()")]
    ran = copy.deepcopy(plain)
    ran["cells"].insert(1, code("xx", "preset = 'mini'", tags=["injected-parameters"]))
    ran["cells"][2]["outputs"] = [
        {"output_type": "stream", "name": "stderr", "text": ["careful\n"]},
        {"output_type": "execute_result", "execution_count": 7, "metadata": {}, "data": {"text/plain": ["1"]}},
    ]
    picture = {"image/png": png(), "text/plain": ["mel.png"]}
    ran["cells"][3]["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": picture}]
    return plain, ran


def test_outputs_go_to_their_cells_and_the_parameters_stay(both):
    plain, ran = both
    found = filled(plain, ran)["cells"]
    assert [cell["id"] for cell in found] == ["aa", "bb", "cc"]
    assert [cell["source"] for cell in found] == [cell["source"] for cell in plain["cells"]]
    assert found[0]["metadata"] == {"tags": ["parameters"]}
    (number,) = found[1]["outputs"]  # and no warning
    assert number["data"]["text/plain"] == ["1"] and number["execution_count"] is None
    assert found[2]["outputs"][0]["data"]["text/plain"] == ["mel.png"]


def test_a_run_of_another_notebook_is_refused(both):
    plain, ran = both
    plain["cells"].append(code("dd", "2"))
    with pytest.raises(ParamsError, match="cell dd: expected it in the executed notebook"):
        filled(plain, ran)


def test_of_more_pictures_than_fit_a_cell_keeps_the_first_and_the_names_of_the_others(both):
    plain, ran = both
    shown = ran["cells"][3]["outputs"]
    shown += [{**shown[0], "data": {**shown[0]["data"], "text/plain": [f"{k}.png"]}} for k in (2, 3)]
    found = [output["data"] for output in filled(plain, ran, pictures=2)["cells"][2]["outputs"]]
    assert ["image/png" in data for data in found] == [True, True, False]
    assert [data["text/plain"] for data in found] == [["mel.png"], ["2.png"], ["3.png"]]


def test_a_picture_fits_its_share_as_well_as_it_can():
    sizes = [len(within(png(), most)) for most in (SHARES[0], 16_000)]
    assert sizes[0] <= SHARES[0] and sizes[1] <= 16_000 and sizes[1] < sizes[0]


def test_a_notebook_is_filled_within_the_limit(both, tmp_path):
    notebook, executed = tmp_path / "a.ipynb", tmp_path / "executed.ipynb"
    for file, content in zip((notebook, executed), both, strict=True):
        file.write_text(json.dumps(content))
    fill(notebook, executed, limit=40_000)
    assert 5_000 < notebook.stat().st_size <= 40_000
    before = notebook.read_text()
    with pytest.raises(ParamsError, match="a.ipynb: expected at most 1 kB"):
        fill(notebook, executed, limit=1_000)
    assert notebook.read_text() == before


def test_the_newest_finished_run_on_miniature_is_taken(tmp_path):
    asked = [
        ("a", "mini", "miniature", "done"),
        ("b", "mini", "miniature", "done"),
        ("c", "mini", "miniature", "failed"),
    ]
    asked += [("d", "claims", "miniature", "done"), ("e", "mini", "folder", "done")]
    for age, (name, preset, corpus, status) in enumerate(asked):
        run = tmp_path / name
        run.mkdir()
        manifest = {"parameters": {"preset": preset, "corpus": corpus}, "status": status}
        (run / "manifest.json").write_text(json.dumps(manifest))
        (run / "executed.ipynb").write_text("{}")
        os.utime(run / "executed.ipynb", (age, age))
    assert newest(tmp_path).parent.name == "b"
    with pytest.raises(RunError, match="expected a finished run of preset paper"):
        newest(tmp_path, "paper")
