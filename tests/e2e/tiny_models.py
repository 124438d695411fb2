"""Tiny random models that vLLM loads like any other: an Idefics3 that sees images and a Llama that does not.

They are built once and kept in the folder of temporary files; random weights answer nonsense, but the same nonsense
for the same prompt, and another one for another image.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

BUILD = 2
CONTEXT_TOKENS = 1024
SPECIAL_TOKENS = (
    "<pad>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('Only system, user and assistant may speak here.') }}{% endif %}"
    "<|im_start|>{{ message.role }}:"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)


def vision_model() -> Path:
    """The folder of a 0.5 M-parameter Idefics3 with a chat template."""
    return built("idefics3", _save_vision_model)


def text_model() -> Path:
    """The folder of a tiny Llama with a chat template."""
    return built("llama-chat", lambda folder: _save_text_model(folder, CHAT_TEMPLATE))


def base_model() -> Path:
    """The folder of a tiny Llama without a chat template."""
    return built("llama-base", lambda folder: _save_text_model(folder, None))


def built(name: str, save: Any) -> Path:
    """The folder of a model of that name; `save` writes it there when it is not there yet."""
    target = Path(tempfile.gettempdir()) / f"vllm-mcp-tiny-models-{os.getuid()}-{BUILD}" / name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent))
        save(draft)
        try:
            draft.rename(target)
        except OSError:  # another test run was faster
            shutil.rmtree(draft)
    return target


def byte_tokenizer(chat_template: str | None) -> Any:
    """A tokenizer with a token for each byte and no words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<end_of_utterance>", pad_token="<pad>"
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[1:])})
    fast.chat_template = chat_template
    return fast


def text_config(vocabulary: int) -> dict[str, Any]:
    """The sizes of a tiny Llama, in Hugging Face's names."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": CONTEXT_TOKENS,
        "bos_token_id": 1,
        "eos_token_id": 6,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
        "initializer_range": 0.5,
    }


def _save_vision_model(folder: Path) -> None:
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHAT_TEMPLATE)
    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
        "initializer_range": 0.2,
    }
    config = Idefics3Config(
        vision_config=vision,
        text_config={"model_type": "llama", **text_config(len(tokenizer))},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    config.bos_token_id, config.eos_token_id = 1, 6
    model = Idefics3ForConditionalGeneration(config).float()
    images = Idefics3ImageProcessorPil(
        do_image_splitting=False, max_image_size={"longest_edge": 64}, size={"longest_edge": 64}
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=16, chat_template=CHAT_TEMPLATE)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _save_text_model(folder: Path, chat_template: str | None) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(chat_template)
    LlamaForCausalLM(LlamaConfig(**text_config(len(tokenizer)))).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
