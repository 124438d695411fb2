"""The tokenizer: byte-level BPE, so that any text has tokens, with the words of the captions as one token each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from captions import caption, random_names
from tokenizers import Regex as Pattern
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2TokenizerFast
from world import COLOUR_NAMES, SHAPES

VOCABULARY, CAPTIONS = 768, 20_000
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
# The way Qwen2's tokenizer splits text: words keep the blank before them.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The pipeline sends one user message. The role would say nothing, so no token is spent on it.
CHAT_TEMPLATE = "{% for message in messages %}" + START + "{{ message['content'] }}" + END + "{% endfor %}"


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Learns the merges from captions and returns the tokenizer with its chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Pattern(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        _captions(seed), trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, min_frequency=20)
    )
    model = json.loads(tokenizer.to_str())["model"]
    built: PreTrainedTokenizerFast = Qwen2TokenizerFast(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=None,
        bos_token=None,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START],
    )
    built.chat_template = CHAT_TEMPLATE
    return built


def render(tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[list[int]]:
    """The token ids of prompts as the served pipeline makes them, without the padding."""
    ids: list[list[int]] = tokenizer([f"{START}{prompt}{END}" for prompt in prompts])["input_ids"]
    return ids


def _captions(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(CAPTIONS):
        yield caption(rng, *random_names(rng, COLOUR_NAMES, SHAPES))
