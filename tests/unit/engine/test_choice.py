"""Which tokens stand for a word, what their log-probabilities say, and how vLLM is asked for them."""

import math
from types import SimpleNamespace

import pytest

from engine.errors import InvalidGeneration
from engine.interface import (
    Completion,
    Control,
    Conversation,
    FinishReason,
    Message,
    Sampling,
    TextPart,
    TokenLogprob,
)
from engine.prompts.choice import Choices, beginnings, probabilities, probabilities_of_texts
from tests.unit.engine.fake_llm import FakeLLM, make_scheduler

YES_NO = ("yes", "no")
LETTERS = "yesnoYESNO"


class FakeTokenizer:
    """Greedy longest match over a vocabulary; a leading space is written as `space`."""

    def __init__(self, *tokens: str, space: str = "Ġ", unknown: str | None = None) -> None:
        self._vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
        self._space = space
        self.unk_token_id = None if unknown is None else self._vocabulary[unknown]

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        text = text.replace(" ", self._space)
        ids = []
        while text:
            found = [token for token in self._vocabulary if text.startswith(token)]
            if found:
                token = max(found, key=len)
                ids.append(self._vocabulary[token])
            else:
                assert self.unk_token_id is not None
                token = text[0]
                ids.append(self.unk_token_id)
            text = text[len(token) :]
        return ids


def names(tokenizer: FakeTokenizer, words: tuple[str, ...] = YES_NO) -> list[set[str]]:
    tokens = list(tokenizer.get_vocab())
    return [{tokens[token_id] for token_id in ids} for ids in beginnings(tokenizer, words)]


def test_every_spelling_that_is_one_token_counts() -> None:
    tokenizer = FakeTokenizer("yes", "Yes", "YES", "Ġyes", "ĠYes", "no", "No", "Ġno", "Yesterday", "Ġ", *LETTERS)
    assert names(tokenizer) == [{"yes", "Yes", "YES", "Ġyes", "ĠYes"}, {"no", "No", "Ġno"}]


def test_sentencepiece_words_count_with_and_without_their_space() -> None:
    assert names(FakeTokenizer("▁", "▁Yes", "Yes", "▁No", "No", "▁no", *LETTERS, space="▁")) == [
        {"▁Yes", "Yes"},
        {"▁No", "No", "▁no"},
    ]


def test_first_pieces_stand_for_a_word_that_is_no_token() -> None:
    letters = FakeTokenizer(*LETTERS, "Ġ")
    assert names(letters) == [{"y", "Y"}, {"n", "N"}]
    assert names(FakeTokenizer("yes", *LETTERS, "Ġ")) == [{"yes"}, {"n", "N"}]


def test_a_token_that_begins_both_words_counts_for_neither() -> None:
    tokenizer = FakeTokenizer(*"someSOMEheHEĠ", "sh", "So")
    assert names(tokenizer, ("some", "she")) == [{"s", "So"}, {"sh"}]


def test_the_unknown_token_stands_for_no_word() -> None:
    with pytest.raises(InvalidGeneration, match="do not distinguish yes and no"):
        beginnings(FakeTokenizer("<unk>", "no", "No", "NO", unknown="<unk>"), YES_NO)


def test_words_that_begin_alike_are_refused() -> None:
    with pytest.raises(InvalidGeneration, match="do not distinguish red and rose"):
        beginnings(FakeTokenizer(*"redosREDOSĠ"), ("red", "rose"))


@pytest.mark.parametrize(
    ("logprobs", "expected"),
    [
        ({0: math.log(0.3), 1: math.log(0.3), 2: math.log(0.2)}, 0.75),
        ({0: -800.0, 2: -800.0}, 0.5),
        ({0: math.log(1e-9), 2: math.log(3e-9)}, 0.25),
        ({0: -0.1}, 1.0),
        ({0: -math.inf, 2: -5.0}, 0.0),
        ({0: math.nan, 1: None, 2: -5.0}, 0.0),
    ],
)
def test_probability_is_the_share_of_the_words_tokens(logprobs: dict[int, float | None], expected: float) -> None:
    shares = probabilities(((0, 1), (2,)), logprobs)
    assert shares is not None
    assert shares == pytest.approx((expected, 1 - expected))


@pytest.mark.parametrize("logprobs", [{}, {0: -math.inf, 2: -math.inf}, {9: -0.1}])
def test_without_a_figure_there_is_no_probability(logprobs: dict[int, float | None]) -> None:
    assert probabilities(((0, 1), (2,)), logprobs) is None


def choices() -> Choices:
    return Choices(SimpleNamespace(get_tokenizer=lambda: FakeTokenizer("yes", "Yes", "no", *LETTERS, "Ġ")))


def test_vllm_is_asked_for_these_tokens_alone_and_for_one_of_them() -> None:
    params = SimpleNamespace(temperature=1.5, max_tokens=50, min_tokens=9, logprobs=None, logprob_token_ids=None)
    choices().limit(params, YES_NO)
    assert (params.temperature, params.max_tokens, params.min_tokens) == (0.0, 1, 0)
    assert params.allowed_token_ids == params.logprob_token_ids == [0, 1, 2]
    assert params.logprobs is None


def test_an_older_vllm_is_asked_for_the_likeliest_tokens() -> None:
    params = SimpleNamespace()
    choices().limit(params, YES_NO)
    assert (params.allowed_token_ids, params.logprobs) == ([0, 1, 2], 20)


def test_free_text_is_left_alone() -> None:
    params, completion = SimpleNamespace(temperature=1.5), Completion(text="free")
    assert choices().limit(params, ()) is params
    assert vars(params) == {"temperature": 1.5}
    assert choices().decide(completion, (), [{}]) is completion


def test_the_likeliest_word_is_the_text_also_when_another_token_was_sampled() -> None:
    logprobs = [{0: SimpleNamespace(logprob=math.log(0.2)), 1: SimpleNamespace(logprob=math.log(0.2))}]
    logprobs[0][2] = SimpleNamespace(logprob=math.log(0.3))
    sampled = Completion(text="no", finish_reason=FinishReason.LENGTH, completion_tokens=1)
    decided = choices().decide(sampled, YES_NO, logprobs)
    assert (decided.text, decided.finish_reason, decided.completion_tokens) == ("yes", FinishReason.STOP, 1)
    assert decided.choice_probabilities == pytest.approx((4 / 7, 3 / 7))


def test_what_vllm_gave_no_figures_for_stays_undecided() -> None:
    completion = Completion(text="", finish_reason=FinishReason.TIMEOUT)
    assert choices().decide(completion, YES_NO, None).choice_probabilities is None
    assert choices().decide(completion, YES_NO, [{7: SimpleNamespace(logprob=-1.0)}]).choice_probabilities is None


@pytest.mark.usefixtures("stand_in_for_vllm")
def test_choices_and_free_text_go_in_one_batch_and_each_end_is_told() -> None:
    llm = FakeLLM(opinions={0: -1.0, 1: -2.0}, refusals={"bad": [ValueError("no")]})
    finished: list[int] = []
    batch = [
        Conversation((Message("user", (TextPart(text),)),), Sampling(0.0, 3), choice=choice)
        for text, choice in (("a", ("a", "b")), ("bad", ("a", "b")), ("free", ()))
    ]
    chosen, refused, free = make_scheduler(llm).generate(batch, Control(on_finished=finished.append))
    assert chosen.text == "a"
    assert chosen.choice_probabilities == pytest.approx((1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))))
    assert refused.choice_probabilities is None
    assert refused.error
    assert (free.text, free.choice_probabilities) == ("abc", None)
    assert finished == [1, 0, 2]


def likely(**logprobs: float) -> list[TokenLogprob]:
    return [TokenLogprob(token.replace("_", " "), logprob) for token, logprob in logprobs.items()]


def test_texts_of_another_machines_tokens_say_the_same_as_their_ids() -> None:
    shares = probabilities_of_texts(YES_NO, likely(Yes=-1.0, _yes=-2.0, no=-1.5, y=-0.1, maybe=-0.2))
    expected = math.exp(-1) + math.exp(-2)
    assert shares == pytest.approx(
        (expected / (expected + math.exp(-1.5)), math.exp(-1.5) / (expected + math.exp(-1.5)))
    )


def test_word_that_is_not_among_the_likeliest_counts_as_impossible() -> None:
    assert probabilities_of_texts(YES_NO, likely(no=-0.1, y=-3.0)) == (0.0, 1.0)


def test_pieces_count_only_where_no_word_is_whole() -> None:
    assert probabilities_of_texts(YES_NO, likely(Y=-1.0, n=-1.0, th=-0.5)) == pytest.approx((0.5, 0.5))
    assert probabilities_of_texts(("north", "no"), likely(n=-1.0, nor=-2.0)) == (1.0, 0.0)


def test_texts_that_begin_no_word_tell_nothing() -> None:
    assert probabilities_of_texts(YES_NO, likely(The=-0.1, yes=-math.inf)) is None
    assert probabilities_of_texts(YES_NO, []) is None
