"""Hostile inputs are tried in processes of their own: one may crash, hang, or ask for all memory there is.

`tried` calls a function there and says in a word what became of it.
"""

import contextlib
import multiprocessing
import resource
import warnings
from collections import Counter
from collections.abc import Callable, Iterable

from musicmtl.core import AudioError, CorpusError, ParamsError, RunError

OUTCOMES = ("right", "said", "undecidable", "refused", "wrong", "crashed", "hung")
CLEAR = (AudioError, CorpusError, ParamsError, RunError)


def _attempt(function: Callable, args: tuple, memory: int, answers) -> None:
    "In the child: send the word."
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    warnings.simplefilter("ignore")
    try:
        word = function(*args)
    except CLEAR as error:
        word = "refused" if "\n" not in str(error) else f"crashed: {type(error).__name__} of several lines"
    except BaseException as error:  # whatever a parser throws
        word = f"crashed: {type(error).__name__}: {error}"
    answers.send(str(word).encode("utf-8", "backslashreplace").decode())


def tried(
    function: Callable,  # () -> one of `OUTCOMES`, and details behind a colon
    *args,
    limit_s: float = 20.0,  # Then it hangs
    memory: int = 6 << 30,  # Bytes of address space; more is a `MemoryError`
) -> str:
    "What became of a call: what it says itself, `refused` where it raised one of our errors, `crashed` or `hung`."
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_attempt, args=(function, args, memory, sender), daemon=True)
    process.start()
    sender.close()
    answer = None
    if receiver.poll(limit_s):
        with contextlib.suppress(EOFError):
            answer = receiver.recv()
        process.join(5)
    elif process.is_alive():
        answer = f"hung: for {limit_s:g} s"
    if process.is_alive():
        process.kill()
    process.join()
    return answer or f"crashed: exit status {process.exitcode}"


def counted(
    outcomes: Iterable[str],
) -> dict:  # tried, and each of `OUTCOMES`
    "How often each word was said."
    counts = Counter(outcome.partition(":")[0] for outcome in outcomes)
    if unknown := set(counts) - set(OUTCOMES):
        raise ValueError(f"outcomes: expected {', '.join(OUTCOMES)}, found {', '.join(unknown)}")
    return {"tried": sum(counts.values())} | {word: counts[word] for word in OUTCOMES}
