"""Rows of servers that people run themselves. Facts are of late 2026."""

from __future__ import annotations

from dataclasses import replace

from parley_server.dialects.openai_chat.quirks import UNCOMMON, Quirks
from parley_server.dialects.openai_embed import EmbedQuirks
from parley_server.dialects.rerank import RerankQuirks
from parley_server.providers.row_presets import FEW_EFFORTS, FEW_KNOBS, PLAIN, VLLM
from parley_server.providers.rows import Row

SERVERS = (
    Row(
        "vllm",
        "vLLM.",
        "http://localhost:8000/v1",
        ("VLLM_API_KEY", "HOSTED_VLLM_API_KEY"),
        key_needed=False,
        url_variables=("VLLM_BASE_URL", "HOSTED_VLLM_API_BASE"),
        chat=VLLM,
        embed=EmbedQuirks(None),
        rerank=RerankQuirks(),
    ),
    Row(
        "lmstudio",
        "LM Studio. The first request waits for the model to load.",
        "http://localhost:1234/v1",
        ("LM_STUDIO_API_KEY",),
        key_needed=False,
        url_variables=("LM_STUDIO_BASE_URL",),
        chat=replace(
            PLAIN,
            missing=UNCOMMON | {"service_tier", "strict", "parallel_tool_calls"},
            formats=frozenset({"json_schema"}),
            image_urls=False,
            efforts=("none", *FEW_EFFORTS),
            think_tags=True,
        ),
        embed=EmbedQuirks.plain(),
    ),
    Row(
        "llamacpp",
        "llama.cpp's server.",
        "http://localhost:8080/v1",
        ("LLAMACPP_API_KEY", "LLAMA_API_KEY"),
        key_needed=False,
        url_variables=("LLAMACPP_BASE_URL",),
        chat=Quirks(
            missing=UNCOMMON | {"service_tier", "strict"},
            repetition_penalty_field="repeat_penalty",
            documents="",
            media_in_results=True,
            efforts=("none", *FEW_EFFORTS),
            effort_field="chat_template_kwargs.reasoning_effort",
            reasoning_switch="chat_template_kwargs.enable_thinking",
        ),
        embed=EmbedQuirks(None),
        rerank=RerankQuirks(),
    ),
    Row(
        "tgi",
        "Hugging Face's Text Generation Inference.",
        "http://localhost:8080/v1",
        ("TGI_API_KEY",),
        key_needed=False,
        url_variables=("TGI_BASE_URL",),
        chat=replace(
            FEW_KNOBS,
            missing=UNCOMMON | {"service_tier", "strict", "logit_bias", "parallel_tool_calls"},
            efforts=(),
            think_tags=True,
        ),
    ),
    Row(
        "litellm",
        "A LiteLLM proxy.",
        "http://localhost:4000/v1",
        ("LITELLM_API_KEY", "LITELLM_PROXY_API_KEY"),
        key_needed=False,
        url_variables=("LITELLM_BASE_URL", "LITELLM_PROXY_API_BASE"),
        chat=Quirks(missing=frozenset(), cache_breakpoints="cache_control"),
        embed=EmbedQuirks(),
        rerank=RerankQuirks.litellm(),
    ),
    Row(
        "gpustack",
        "GPUStack.",
        "http://localhost/v1",
        ("GPUSTACK_API_KEY",),
        key_needed=False,
        url_variables=("GPUSTACK_BASE_URL",),
        chat=VLLM,
        embed=EmbedQuirks(None),
        rerank=RerankQuirks.jina(),
    ),
    Row(
        "anyscale",
        "Services of one's own at Anyscale.",
        key_variables=("ANYSCALE_API_KEY",),
        url_variables=("ANYSCALE_BASE_URL",),
        chat=VLLM,
        embed=EmbedQuirks(None),
    ),
)
