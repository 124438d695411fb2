"""Whisper base from a file of CTranslate2, in float16 as that file has it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.real_models.packages import only

WIDTH, N_LAYERS = 512, 6
VOCABULARY = 51865
END, START, TRANSLATE, TRANSCRIBE, START_OF_PREVIOUS, FIRST_TIMESTAMP = 50257, 50258, 50358, 50359, 50361, 50364
N_TIMESTAMPS = 1501
"""`<|0.00|>` to `<|30.00|>`, 0.02 s apart."""
FLOAT16 = 4
"""CTranslate2's number of that type."""
BOTH = (("weight", "weight"), ("bias", "bias"))
NORM = (("gamma", "weight"), ("beta", "bias"))

Place = tuple[str, slice | None, str]
"""A tensor's name in CTranslate2, the rows of it that are meant (None: all), and the name in transformers."""


class Ct2File:
    """A CTranslate2 `model.bin`: little-endian numbers, and strings and arrays with their length before them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def variables(self) -> Iterator[tuple[str, Any]]:
        """Each float16 array with its name; the few variables of another type are single numbers."""
        import numpy as np

        self._number("I"), self._text(), self._number("I")  # the format's version, the model's kind and its revision
        for _ in range(self._number("I")):
            name = self._text()
            shape = [self._number("I") for _ in range(self._number("B"))]
            kind, raw = self._number("B"), self._bytes(self._number("I"))
            if kind == FLOAT16:
                yield name, np.frombuffer(raw, np.float16).reshape(shape)

    def _number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return int(value)

    def _bytes(self, count: int) -> memoryview:
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def _text(self) -> str:
        return bytes(self._bytes(self._number("H"))).rstrip(b"\0").decode()


def save_whisper_base(files: Sequence[Path], target: Path, scratch: Path) -> None:
    """The model, its feature extractor and its tokenizer.

    Arguments as in `catalogue.py`.

    Raises: `RuntimeError` when the file does not fill each of the model's tensors.
    """
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    data = only(files, "model.bin.part1").read_bytes() + only(files, "model.bin.part2").read_bytes()
    theirs = dict(Ct2File(data).variables())
    model = WhisperForConditionalGeneration(_config()).to(torch.float16)
    ours = model.state_dict()
    filled = {"proj_out.weight"}  # it is the embeddings' matrix
    for name, rows, place in _places():
        value = torch.from_numpy(theirs[name].copy())
        ours[place].copy_(value if rows is None else value[rows])
        filled.add(place)
    if filled != set(ours):
        raise RuntimeError(f"tensors without a source, or without a place: {set(ours) ^ filled}")
    model.generation_config = _generation_config(json.loads(only(files, "config.json").read_text()))
    model.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(target)
    _save_tokenizer(only(files, "tokenizer.json"), target, scratch)


def _config() -> Any:
    from transformers import WhisperConfig

    return WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=N_LAYERS,
        decoder_layers=N_LAYERS,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=1500,
        max_target_positions=448,
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
        decoder_start_token_id=START,
        activation_function="gelu",
        is_multilingual=True,
    )


def _generation_config(known: dict[str, Any]) -> Any:
    """`known` is the package's `config.json`."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        decoder_start_token_id=START,
        is_multilingual=True,
        no_timestamps_token_id=FIRST_TIMESTAMP - 1,
        prev_sot_token_id=START_OF_PREVIOUS,
        max_initial_timestamp_index=50,
        max_length=448,
        suppress_tokens=known["suppress_ids"],
        begin_suppress_tokens=known["suppress_ids_begin"],
        alignment_heads=known["alignment_heads"],
        lang_to_id={f"<|{language}|>": number for number, language in enumerate(_languages(), START + 1)},
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
    )


def _languages() -> list[str]:
    """The codes of the 99 languages, in the order of their tokens."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return list(LANGUAGES)[: TRANSLATE - START - 1]


def _places() -> Iterator[Place]:
    for n in (1, 2):
        yield from _pair(f"encoder/conv{n}", f"model.encoder.conv{n}")
    for side in ("encoder", "decoder"):
        yield f"{side}/position_encodings/encodings", None, f"model.{side}.embed_positions.weight"
        yield from _pair(f"{side}/layer_norm", f"model.{side}.layer_norm", NORM)
        for n in range(N_LAYERS):
            yield from _layer(f"{side}/layer_{n}", f"model.{side}.layers.{n}")
            if side == "decoder":
                yield from _cross_attention(f"{side}/layer_{n}/attention", f"model.{side}.layers.{n}")
    yield "decoder/embeddings/weight", None, "model.decoder.embed_tokens.weight"


def _layer(theirs: str, ours: str) -> Iterator[Place]:
    yield from _pair(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm", NORM)
    yield from _pair(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
    for n, part in enumerate("qkv"):  # one matrix there, three here; keys have no bias
        rows = slice(n * WIDTH, (n + 1) * WIDTH)
        kinds = BOTH[:1] if part == "k" else BOTH
        yield from _pair(f"{theirs}/self_attention/linear_0", f"{ours}.self_attn.{part}_proj", kinds, rows)
    yield from _pair(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm", NORM)
    for n in (0, 1):
        yield from _pair(f"{theirs}/ffn/linear_{n}", f"{ours}.fc{n + 1}")


def _cross_attention(theirs: str, ours: str) -> Iterator[Place]:
    yield from _pair(f"{theirs}/layer_norm", f"{ours}.encoder_attn_layer_norm", NORM)
    yield from _pair(f"{theirs}/linear_0", f"{ours}.encoder_attn.q_proj")
    yield from _pair(f"{theirs}/linear_1", f"{ours}.encoder_attn.k_proj", BOTH[:1], slice(0, WIDTH))
    yield from _pair(f"{theirs}/linear_1", f"{ours}.encoder_attn.v_proj", BOTH, slice(WIDTH, 2 * WIDTH))
    yield from _pair(f"{theirs}/linear_2", f"{ours}.encoder_attn.out_proj")


def _pair(
    theirs: str, ours: str, kinds: Sequence[tuple[str, str]] = BOTH, rows: slice | None = None
) -> Iterator[Place]:
    for kind, our_kind in kinds:
        yield f"{theirs}/{kind}", rows, f"{ours}.{our_kind}"


def _save_tokenizer(package_file: Path, target: Path, scratch: Path) -> None:
    """CTranslate2 needs no timestamps in its tokenizer, so they are added."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import WhisperTokenizerFast

    tokenizer = Tokenizer.from_file(str(package_file))
    tokenizer.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(N_TIMESTAMPS)])
    ends = tokenizer.token_to_id("<|0.00|>"), tokenizer.token_to_id("<|30.00|>")
    if ends != (FIRST_TIMESTAMP, VOCABULARY - 1):
        raise RuntimeError(f"the timestamps got the numbers {ends}")
    tokenizer.save(str(scratch / "tokenizer.json"))
    WhisperTokenizerFast(tokenizer_file=str(scratch / "tokenizer.json")).save_pretrained(target)
    # The class arranges its special tokens anew; the file as it was made here is what counts.
    tokenizer.save(str(target / "tokenizer.json"))
