"""`analyze_images_with_query` over 32 images against one `LLM.chat` on the same list.

Both sides get the same new images with the same question, generate greedily and end where the model ends; they take
turns. The server gets PNGs in data URLs, and its time includes checking and decoding them. The raw engine gets PIL
images, and in another row data URLs. The other rows are the same call with a relevance check of every image first
(nothing is irrelevant at threshold 0, so it also generates an answer over all images), with that answer only, and one
call per image: of `LLM.chat` and of `analyze_single_image`, on the same images. Each of these rows has its own images,
so that no cache has them. A gain is the time of the single calls divided by that of the list.

A separate table has the cost of the decoding child: an image decoded in a child of the sandbox against the same image
decoded by the same code in this process, in turn, both warm. It includes safe images, which no child decodes.
"""

from __future__ import annotations

import msgspec

from benchmarks import decoding
from benchmarks.engines import Messages, OurServer, RawEngine, one_by_one
from benchmarks.pipe_server import Json
from benchmarks.prompts import Prompts, user
from benchmarks.results import Bound, Cell, Findings, Requirement, Table
from benchmarks.run import Run
from benchmarks.samples import Spread, ratio, spread

TITLE = "Many images against raw vLLM"
N_IMAGES = 32
MAX_TOKENS = 64
QUERY = "Describe this image."
REQUIRED = 1.1
REQUIRED_GAIN = 0.8
TOOL = "analyze_images_with_query"


class Round(msgspec.Struct, frozen=True):
    """Seconds of every way, and how many texts of the first two differ."""

    raw_s: float
    raw_urls_s: float
    ours_s: float
    checked_s: float
    answered_s: float
    raw_one_by_one_s: float
    one_by_one_s: float
    n_different: int

    @property
    def raw_gain(self) -> float:
        """How many times faster the raw engine is with the list than with single images."""
        return self.raw_one_by_one_s / self.raw_s

    @property
    def gain(self) -> float:
        """How many times faster the server is with one call than with a call per image."""
        return self.one_by_one_s / self.ours_s


def measure(run: Run) -> Findings:
    """All ways, round by round."""
    n_rounds, n_images = run.pick(full=20, quick=2), run.pick(full=N_IMAGES, quick=4)
    prompts = Prompts(seed=2)
    with RawEngine(run.model) as raw, OurServer(run.model) as ours:
        _round(raw, ours, prompts, n_images, raw_first=True)
        rounds = [_round(raw, ours, prompts, n_images, raw_first=number % 2 == 0) for number in range(n_rounds)]
    children = decoding.measure(run.pick(full=40, quick=5))
    n_different = sum(each.n_different for each in rounds)
    notes = [
        f"{n_different} of {n_rounds * n_images} texts differ from the raw engine's.",
        f"{n_rounds} rounds, at most {MAX_TOKENS} tokens an image.",
    ]
    tables = [_table(n_images, rounds), decoding.table(children)]
    return Findings(tables, [*_requirements(n_images, rounds), *decoding.requirements(children)], notes)


def _round(raw: RawEngine, ours: OurServer, prompts: Prompts, n_images: int, raw_first: bool) -> Round:
    urls = [prompts.data_url() for _ in range(n_images)]
    conversations: list[Messages] = [[user(QUERY, url)] for url in urls]
    before = raw.chat(conversations, MAX_TOKENS, ignore_eos=False) if raw_first else None
    ours_s, result = ours.call(TOOL, _arguments(urls))
    answer = before or raw.chat(conversations, MAX_TOKENS, ignore_eos=False)
    texts = [item["analysis"] for item in result["results"]]
    own = [[user(QUERY, url)] for url in _fresh(prompts, n_images)]
    raw_urls_s = raw.chat(own, MAX_TOKENS, ignore_eos=False, decoded=False).seconds
    checked_s, _ = ours.call(TOOL, {**_arguments(_fresh(prompts, n_images)), "check_relevance": True, "threshold": 0})
    answered_s, _ = ours.call(TOOL, {**_arguments(_fresh(prompts, n_images)), "overall_answer": True})
    singles = _fresh(prompts, n_images)
    raw_singles = one_by_one(
        lambda messages: raw.chat([messages], MAX_TOKENS, ignore_eos=False), [[user(QUERY, url)] for url in singles]
    )
    our_singles = [
        ours.call("analyze_single_image", {"image_path": url, "query": QUERY, "max_tokens": MAX_TOKENS})[0]
        for url in singles
    ]
    return Round(
        raw_s=answer.seconds,
        raw_urls_s=raw_urls_s,
        ours_s=ours_s,
        checked_s=checked_s,
        answered_s=answered_s,
        raw_one_by_one_s=raw_singles.seconds,
        one_by_one_s=sum(our_singles),
        n_different=sum(a != b for a, b in zip(answer.texts, texts, strict=True)),
    )


def _fresh(prompts: Prompts, n_images: int) -> list[str]:
    return [prompts.data_url() for _ in range(n_images)]


def _arguments(urls: list[str]) -> Json:
    return {
        "image_paths": urls,
        "query": QUERY,
        "check_relevance": False,
        "overall_answer": False,
        "max_tokens": MAX_TOKENS,
    }


def _table(n_images: int, rounds: list[Round]) -> Table:
    raw = [each.raw_s for each in rounds]
    rows = [
        _row(f"{RawEngine.name}, the list", raw, raw),
        _row("… as data URLs", [each.raw_urls_s for each in rounds], raw),
        _row("… one call for each", [each.raw_one_by_one_s for each in rounds], raw),
        _row(f"{OurServer.name}, check_relevance false", [each.ours_s for each in rounds], raw),
        _row("… with the check", [each.checked_s for each in rounds], raw),
        _row("… with one answer over all", [each.answered_s for each in rounds], raw),
        _row("… one call for each", [each.one_by_one_s for each in rounds], raw),
    ]
    return Table(f"{n_images} images", ["way", "ms in all", "range ms", f"against {RawEngine.name}, the list"], rows)


def _row(name: str, seconds: list[float], raw: list[float]) -> list[Cell]:
    times = spread([1000 * value for value in seconds])
    return [name, times.median, f"{times.low:.0f} to {times.high:.0f}", f"{ratio(seconds, raw).median:.3f}×"]


def _requirements(n_images: int, rounds: list[Round]) -> list[Requirement]:
    against_raw = ratio([each.ours_s for each in rounds], [each.raw_s for each in rounds])
    gain = ratio([each.gain for each in rounds], [each.raw_gain for each in rounds])
    what = f"{n_images} images in one call, relevance not checked: "
    return [
        _requirement(what + "time over raw `LLM.chat` on the list", against_raw, Bound.AT_MOST, REQUIRED),
        _requirement(
            what + "gain over a call for each, over raw `LLM.chat`'s gain", gain, Bound.AT_LEAST, REQUIRED_GAIN
        ),
    ]


def _requirement(what: str, figure: Spread, side: Bound, bound: float) -> Requirement:
    return Requirement(what, figure.median, side, bound, low=figure.low, high=figure.high)
