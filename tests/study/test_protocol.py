"A protocol is a set of switches, and its name says which of them are turned."

from dataclasses import dataclass
from itertools import combinations

import pytest

from musicmtl.core import ParamsError
from musicmtl.study import SwitchedProtocol


@dataclass(frozen=True)
class Protocol(SwitchedProtocol):
    switches = {"split": ("window", "artist"), "fit": ("all", "train"), "axis": ("time", "frequency")}
    split: str = "artist"
    fit: str = "train"
    axis: str = "frequency"


PUBLISHED, CORRECTED = Protocol.ends()
SUBSETS = [names for n in range(4) for names in combinations(Protocol.switches, n)]


def test_the_ends_are_all_published_and_all_corrected():
    assert PUBLISHED == Protocol("window", "all", "time") and CORRECTED == Protocol()
    assert (PUBLISHED.name, CORRECTED.name) == ("published", "corrected")
    assert CORRECTED.with_(*Protocol.switches) == PUBLISHED


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_a_switch_turned_twice_is_where_it_was(names):
    for start in (PUBLISHED, CORRECTED):
        assert start.with_(*names).with_(*names) == start
        turned = start.with_(*names)
        assert {name for name in Protocol.switches if getattr(turned, name) != getattr(start, name)} == set(names)


def test_every_protocol_has_a_name_of_its_own():
    assert len({CORRECTED.with_(*names).name for names in SUBSETS}) == len(SUBSETS)
    assert CORRECTED.with_("split").name == "corrected-split" and PUBLISHED.with_("fit").name == "published+fit"


def test_what_is_no_switch_or_no_position_is_refused():
    with pytest.raises(ParamsError, match="protocol switch: expected one of split, fit, axis, found 'leak'"):
        CORRECTED.with_("leak")
    with pytest.raises(ParamsError, match="protocol split: expected one of window, artist, found 'song'"):
        Protocol(split="song")
