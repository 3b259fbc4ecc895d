"""A language model small enough to make in the test that asks it: real architecture, random weights, gibberish answers.

`write_tiny_model` writes a GGUF file (about 0.6 MB, in a few hundredths of a second, without a network) that llama.cpp
and Ollama load like any other model: Llama architecture, 2 layers, 64 dimensions, a SentencePiece vocabulary with byte
fallback, a ChatML template with tools and thinking. The same seed gives the same bytes; at temperature 0, or with a
seed in the request, so does the same question.

What it says is nonsense ("bu字ta dobi zefu"). How it says it is exact: tokens are counted, streams arrive token by
token, stop words stop, and an answer lasts as long as it may, since the model never ends one by itself. A JSON schema
or a tool makes the server let only valid tokens through, so the nonsense is then valid JSON, and it ends. Offered
tools, the model calls one; given the result, it chats on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

CONTEXT_TOKENS = 32_768
"""The longest conversation, prompt and answer together, that the model allows; a server may set less."""

WIDTH = 64
"""Dimensions of the model, and so of its embeddings."""

_LAYERS, _HEADS, _FEED_FORWARD = 2, 4, 128

# llama.cpp learns from this how tools are called and thoughts are marked, by rendering made-up conversations and
# comparing the results.
CHAT_TEMPLATE = r"""
{%- if tools %}
{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- 'Answer with <tool_call>{"name": <name>, "arguments": <arguments>}</tool_call> to call one of these functions:' }}
{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>' + message.content + '</tool_response><|im_end|>\n' }}
{%- elif not (tools and loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.reasoning_content %}{{- '<think>\n' + message.reasoning_content + '\n</think>\n' }}{%- endif %}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking %}{{- '<think>\n' }}{%- endif %}
{%- if tools and messages[-1].role == 'user' %}{{- '<|use_tool|>' }}{%- endif %}
{%- endif %}
"""

_REFLEXES = {"<|use_tool|>": "<tool_call>", "</tool_call>": "<|im_end|>"}
"""What the model has been taught: the token that a token calls forth."""

_RESERVED = 1 + len(_REFLEXES)
"""The first dimensions, which no layer reads or writes: one for the biases of the output, one for each reflex."""

# Biases in logits; random weights alone give a standard deviation of about 3.
_GLADLY, _SELDOM = 0.0, -5.0
_OFTEN = 4.0  # for the quotation mark: strings in JSON end after some words
_WHEN_TAUGHT = -100.0  # by a reflex, or when a grammar leaves no choice
_AS_LAST_CHOICE = -200.0


@dataclass(frozen=True)
class _Token:
    """One entry of the vocabulary: its text, how gladly it is said, how early text that is read is merged into it."""

    text: str
    kind: gguf.TokenType
    bias: float
    score: float = 0.0


def _vocabulary() -> Iterator[_Token]:
    """Anything can be read; what is said unasked is syllables, some ASCII, and characters of two to four bytes."""
    yield _Token("<unk>", gguf.TokenType.UNKNOWN, _AS_LAST_CHOICE)
    for text in ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|use_tool|>"):
        yield _Token(text, gguf.TokenType.CONTROL, _WHEN_TAUGHT)
    for text in ("<think>", "</think>", "<tool_call>", "</tool_call>"):
        yield _Token(text, gguf.TokenType.USER_DEFINED, _WHEN_TAUGHT)
    for byte in range(256):  # half a character is never said by itself, so answers are valid UTF-8
        yield _Token(f"<0x{byte:02X}>", gguf.TokenType.BYTE, _AS_LAST_CHOICE)
    for syllable in (consonant + vowel for consonant in "bcdfghjklmnpqrstvwxyz" for vowel in "aeiou"):
        yield _Token("▁" + syllable, gguf.TokenType.NORMAL, _GLADLY, score=-1.0)
        yield _Token(syllable, gguf.TokenType.NORMAL, _GLADLY, score=-2.0)
    for character in "éßжλ漢字。🙂🧭":
        yield _Token(character, gguf.TokenType.NORMAL, _GLADLY, score=-3.0)
    # Without commas JSON ends soon: no second element, no optional key. Without `<` a call ends by its tag and is not
    # spelled out.
    exceptions = {'"': _OFTEN, ",": _AS_LAST_CHOICE, "<": _AS_LAST_CHOICE}
    for character in ("▁", *map(chr, range(0x21, 0x7F))):
        yield _Token(character, gguf.TokenType.NORMAL, exceptions.get(character, _SELDOM), score=-3.0)


def write_tiny_model(path: Path, *, seed: int = 1) -> Path:
    """Write the model to `path` (a `.gguf` file, overwritten) and return it. Same seed, same bytes."""
    vocabulary = list(_vocabulary())
    index = {token.text: number for number, token in enumerate(vocabulary)}

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // _HEADS)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)

    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.text for token in vocabulary])
    writer.add_token_scores([token.score for token in vocabulary])
    writer.add_token_types([token.kind for token in vocabulary])
    writer.add_unk_token_id(index["<unk>"])
    writer.add_bos_token_id(index["<s>"])
    writer.add_eos_token_id(index["<|im_end|>"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    biases = np.array([token.bias for token in vocabulary])
    reflexes = [(index[cause], index[effect]) for cause, effect in _REFLEXES.items()]
    for name, weights in _weights(biases, reflexes, np.random.default_rng(seed)):
        writer.add_tensor(name, weights.astype(np.float32))

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(
    biases: npt.NDArray[np.float64], reflexes: list[tuple[int, int]], random: np.random.Generator
) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Random weights, except in the reserved dimensions: what an embedding holds there reaches the output unchanged.

    Dimension 0 is the same for every token, so the output's weights there act as the biases that Llama lacks. Gains
    above 1 make attention sharp and each answer depend on all that came before, or a random model would soon repeat
    itself.
    """

    def normal(rows: int, columns: int, gain: float) -> npt.NDArray[np.float64]:
        return random.normal(0, gain * columns**-0.5, (rows, columns))

    def reading(rows: int, gain: float) -> npt.NDArray[np.float64]:
        weights = normal(rows, WIDTH, gain)
        weights[:, :_RESERVED] = 0
        return weights

    def writing(columns: int, gain: float) -> npt.NDArray[np.float64]:
        weights = normal(WIDTH, columns, gain)
        weights[:_RESERVED] = 0
        return weights

    embedding = random.normal(0, 1, (len(biases), WIDTH))
    embedding[:, :_RESERVED] = 0
    embedding[:, 0] = 4  # about 2 after the last normalisation
    output = reading(len(biases), gain=3)
    output[:, 0] = biases / 2
    for dimension, (cause, effect) in enumerate(reflexes, start=1):
        embedding[cause, dimension] = 4
        output[effect, dimension] = 200
    yield "token_embd.weight", embedding
    yield "output.weight", output
    yield "output_norm.weight", np.ones(WIDTH)
    for layer in range(_LAYERS):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", np.ones(WIDTH)
        yield f"{block}.attn_q.weight", reading(WIDTH, gain=2)
        yield f"{block}.attn_k.weight", reading(WIDTH, gain=2)
        yield f"{block}.attn_v.weight", reading(WIDTH, gain=1)
        yield f"{block}.attn_output.weight", writing(WIDTH, gain=2)
        yield f"{block}.ffn_norm.weight", np.ones(WIDTH)
        yield f"{block}.ffn_gate.weight", reading(_FEED_FORWARD, gain=2)
        yield f"{block}.ffn_up.weight", reading(_FEED_FORWARD, gain=2)
        yield f"{block}.ffn_down.weight", writing(_FEED_FORWARD, gain=1)
