"""A tiny random Qwen2-Audio, which takes text and audio and needs neither torchvision nor torchaudio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e import tiny_models

TOKENS_PER_S = 25
AUDIO, BEGIN, END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
MEL_BINS = 128


def audio_model() -> Path:
    """The folder of the model."""
    return tiny_models.built("qwen2-audio", _save)


def _save(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    text = {**tiny_models.text_config(len(tokenizer)), "max_position_embeddings": 4096, "model_type": "qwen2"}
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": MEL_BINS,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 64,
            "max_source_positions": 1500,
        },
        text_config=text,
        audio_token_index=tokenizer.convert_tokens_to_ids(AUDIO),
        tie_word_embeddings=False,
    )
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 6, 0
    model = Qwen2AudioForConditionalGeneration(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)  # else the audio hardly counts beside the text
    model.save_pretrained(folder)
    # transformers 5.19 puts one ".model" too many into the names that it saves for this model.
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name.replace(".model.model.", ".model."): value for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    features = WhisperFeatureExtractor(feature_size=MEL_BINS)
    features.save_pretrained(folder)
    Qwen2AudioProcessor(features, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tiny_models.byte_tokenizer(None).backend_tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens={"audio_token": AUDIO, "audio_bos_token": BEGIN, "audio_eos_token": END},
        chat_template=tiny_models.CHAT_TEMPLATE.replace("'image'", "'audio'").replace("<image>", BEGIN + AUDIO + END),
    )
