"""Tokens: the byte-level tokenizer, the chat template, and how a dialogue becomes token ids with training weights."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from architecture import CONTEXT_TOKENS, IMAGE_TOKENS
from dialogues import Dialogue, random_dialogue
from scenes import draw_record
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 1024
PAD, BEGIN, END, IMAGE = "<pad>", "<|im_start|>", "<|im_end|>", "<image>"
# Idefics3's processor writes these around every image; the last one it only insists on knowing.
FAKE, GLOBAL, UTTERANCE = "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
SPECIAL = (PAD, BEGIN, END, IMAGE, FAKE, GLOBAL, UTTERANCE)
IMAGE_TEXT = FAKE + GLOBAL + IMAGE * IMAGE_TOKENS + FAKE

# Images come first wherever a message has them: the model was trained on that order alone.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- elif message['content'] -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<image>' -}}
{%- endif -%}
{%- endfor -%}
{%- for part in message['content'] if part is string or part['type'] == 'text' -%}
{{- '' if loop.first else ' ' -}}
{{- part if part is string else part['text'] -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class Rendered:
    """A dialogue as tokens. `weights` are zero except on the assistant's tokens; `images` are in prompt order."""

    ids: list[int]
    weights: list[float]
    images: tuple[int, ...]


def train_tokenizer(seed: int, dialogues: int = 12000) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` tokens learnt from dialogues of the training distribution.

    Words of three letters and more that occur rarely (invented names among them) hardly earn merges, so a name is
    spelt in short pieces, which is what makes it easy to copy.
    """
    rng = random.Random(seed)

    def corpus() -> Iterator[str]:
        for _ in range(dialogues):
            images = [(row, draw_record(rng)) for row in range(rng.choice((0, 1, 1, 1, 2)))]
            for turn in random_dialogue(rng, images):
                yield f"{turn.role}\n{turn.text}"
        for word in ("yes", "no", "Yes", "No"):
            yield from [f"{word} {word}"] * 500

    bpe = Tokenizer(models.BPE())
    # One digit a token; otherwise words keep the space before them, as usual.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=40,
        max_token_length=12,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[IMAGE, FAKE, GLOBAL, UTTERANCE],
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Ids by the names that `architecture.build_model` asks for."""
    names = {"pad": PAD, "bos": BEGIN, "eos": END, "image": IMAGE}
    return {name: int(tokenizer.convert_tokens_to_ids(text)) for name, text in names.items()}


def dialogue_text(dialogue: Dialogue) -> str:
    """The text that chat template and image processor make of a dialogue (the template is the reference)."""
    pieces = []
    for turn in dialogue:
        images = IMAGE_TEXT * len(turn.images)
        content = turn.text + images if turn.images_last else images + turn.text
        pieces.append(f"{BEGIN}{turn.role}\n{content}{END}\n")
    return "".join(pieces)


def render(tokenizer: PreTrainedTokenizerFast, dialogues: list[Dialogue]) -> list[Rendered]:
    """Token ids and weights; every answer weighs the square root of its length, so that short ones count."""
    texts = [dialogue_text(dialogue) for dialogue in dialogues]
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    begin, end = tokenizer.convert_tokens_to_ids(BEGIN), tokenizer.convert_tokens_to_ids(END)
    rendered = []
    for dialogue, ids in zip(dialogues, encoded, strict=True):
        starts = [position for position, token in enumerate(ids) if token == begin]
        ends = [position for position, token in enumerate(ids) if token == end]
        weights = [0.0] * len(ids)
        for turn, start, stop in zip(dialogue, starts, ends, strict=True):
            if turn.role == "assistant":
                # The role and the line break after it are one token each.
                first = start + 3
                weights[first : stop + 1] = [(stop + 1 - first) ** -0.5] * (stop + 1 - first)
        rendered.append(Rendered(ids, weights, tuple(row for turn in dialogue for row in turn.images)))
    return rendered
