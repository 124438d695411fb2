"""A Llama made by hand that says given texts: which one, its chat template decides from the conversation.

The prompt ends with a token that names a script. Attention looks at that token alone and adds the script to what each
token stands for; the output layer then prefers the token that follows the last one in that script. So real parsers
can be tried on real generations with outputs that are known.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e import tiny_models

SPECIAL_TOKENS = ("<pad>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
"""`<tool_call>` is special here, as with some models: a detokenizer leaves it out unless told not to."""
MARKS = ("<think>", "</think>")
HEAD_DIM = 64
CONTEXT_TOKENS = 2048
FOLLOWS, OF_SCRIPT = 2.0, 1.0

CHAT_TEMPLATE = (
    "{%- if tools %}<|im_start|>tools:{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>{% endif -%}"
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role }}:{{ message.content }}"
    "{%- for call in message.tool_calls or [] %}[{{ call.id }} {{ call.function | tojson }}]{% endfor -%}"
    "<|im_end|>"
    "{%- endfor -%}"
    "{%- set last = messages[-1] -%}"
    "{%- set say = namespace(it=last.content) -%}"
    "{%- if last.role == 'tool' -%}"
    "{%- set call = messages[-2].tool_calls[0].function -%}"
    "{%- set say.it = call.name + ' ' + call.arguments.city + ': ' + last.content -%}"
    "{%- elif tools -%}{%- set say.it = last.content + ' with ' + tools[0].function.name -%}"
    "{%- endif -%}"
    "<|im_start|>assistant:"
    "{%- if enable_thinking is defined and not enable_thinking -%}"
    "{%- set say.it = say.it + ' at once' -%}<think></think>"
    "{%- endif -%}"
    "{{ '<|' + say.it + '|>' }}"
)


def scripted_model(scripts: Mapping[str, str]) -> Path:
    """The folder of a model that says each script when the template comes to its name.

    The name is what the last message says; with tools " with " and the first tool's name are added; where that message
    is a tool's result, it is `NAME CITY: RESULT` of the call before it; where thinking is off, " at once" is added.
    """
    told = json.dumps([scripts, CHAT_TEMPLATE, SPECIAL_TOKENS, MARKS])
    name = f"llama-scripted-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    return tiny_models.built(name, lambda folder: _save(folder, scripts))


def _save(folder: Path, scripts: Mapping[str, str]) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    starts = [f"<|{name}|>" for name in scripts]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    taken = {*starts, *alphabet}
    pieces = [_pieces(text, taken) for text in scripts.values()]
    tokens = [*SPECIAL_TOKENS, *MARKS, *starts, *alphabet, *(piece for said in pieces for piece in said)]
    ids = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    fast.add_special_tokens({"additional_special_tokens": [*SPECIAL_TOKENS[1:], *starts]})
    fast.add_tokens(list(MARKS))
    fast.chat_template = CHAT_TEMPLATE

    size = len(ids) + len(scripts)
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=size,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=CONTEXT_TOKENS,
        rope_theta=1e12,
        bos_token_id=ids["<|im_start|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<pad>"],
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).float()
    weights: dict[str, Any] = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            weight.fill_(1.0 if "norm" in name else 0.0)
        attention = "model.layers.0.self_attn."
        weights["model.embed_tokens.weight"].copy_(torch.eye(len(ids), size))
        # The last pair of a head's dimensions turns slowest with the position: there every token asks, and only the
        # tokens that name scripts answer.
        weights[attention + "q_proj.weight"][-1] = 1.0
        for number, start in enumerate(starts):
            weights[attention + "k_proj.weight"][-1, ids[start]] = 1.0
            weights[attention + "v_proj.weight"][number, ids[start]] = size**-0.5
            weights[attention + "o_proj.weight"][len(ids) + number, number] = 1.0
        output = weights["lm_head.weight"]
        for number, (start, said) in enumerate(zip(starts, pieces, strict=True)):
            for before, after in zip([start, *said], [*said, "<|im_end|>"], strict=True):
                output[ids[after], ids[before]] = FOLLOWS
                if after != "<|im_end|>":
                    output[ids[after], len(ids) + number] = OF_SCRIPT
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def _pieces(text: str, taken: set[str]) -> list[str]:
    """Cuts a text into tokens that appear in no other place, and adds them to `taken`.

    A mark is itself where it comes first in a text, a special token where it comes first in all: else it would not be
    clear what follows it.
    """
    from tokenizers import pre_tokenizers

    ((spelled, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    whole = [*MARKS, *(token for token in SPECIAL_TOKENS if token not in taken)]
    pieces: list[str] = []
    for part in re.split("|".join(f"({re.escape(token)})" for token in whole), spelled):
        if part in whole and part not in pieces:
            pieces.append(part)
            taken.add(part)
        elif part:
            pieces += _fresh_pieces(part, taken)
    return pieces


def _fresh_pieces(part: str, taken: set[str]) -> list[str]:
    pieces: list[str] = []
    begin = 0
    while begin < len(part):
        ends = range(min(begin + 4, len(part)), len(part) + 1)
        end = next((end for end in ends if part[begin:end] not in taken), None)
        if end is None and pieces:  # a rest that is taken joins the piece before it
            begin -= len(pieces[-1])
            taken.discard(pieces.pop())
            end = len(part)
        assert end is not None, f"{part!r} cannot be cut into tokens of its own"
        pieces.append(part[begin:end])
        taken.add(part[begin:end])
        begin = end
    return pieces
