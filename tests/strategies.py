"""Hypothesis strategies for the messages of `parley.v1`."""

from __future__ import annotations

from hypothesis import strategies as st

from parley import v1

texts = st.text(max_size=40)
"""Any valid text, emoji and other astral characters included; proto strings cannot carry lone surrogates."""

words = st.text(st.characters(codec="ascii", categories=("Ll", "Nd")), min_size=1, max_size=12)
small = st.integers(0, 2**31 - 1)
replay_states = st.builds(v1.ReplayState, provider=words, model=words, data=st.binary(max_size=16))
citations = st.builds(v1.Citation, start_index=small, end_index=small, cited_text=texts, title=texts, uri=words)


@st.composite
def answer_parts(draw: st.DrawFn) -> v1.Part:
    """Parts that a model's answer may have."""
    kind = draw(st.sampled_from(("text", "refusal", "reasoning", "tool_call", "provider_part")))
    part = v1.Part()
    match kind:
        case "text":
            part.text = draw(texts)
            part.citations.extend(draw(st.lists(citations, max_size=2)))
        case "refusal":
            part.refusal.text, part.refusal.category = draw(texts), draw(texts)
        case "reasoning":
            part.reasoning.text, part.reasoning.redacted = draw(texts), draw(st.booleans())
        case "tool_call":
            call = part.tool_call
            call.id, call.name, call.arguments_json = draw(words), draw(words), draw(texts)
        case "provider_part":
            part.provider_part.provider, part.provider_part.json = draw(words), draw(texts)
    if draw(st.booleans()):
        part.replay_state.CopyFrom(draw(replay_states))
    return part


@st.composite
def usages(draw: st.DrawFn) -> v1.Usage:
    """Usage whose details are subsets of its totals."""
    read, written, plain, output = (draw(st.integers(0, 5 * 10**8)) for _ in range(4))
    return v1.Usage(
        source=v1.Usage.SOURCE_PROVIDER,
        input_tokens=read + written + plain,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
    )


prices = st.integers(0, 10**12)
pricings = st.builds(
    v1.ModelPricing,
    input_nano_usd=prices,
    output_nano_usd=prices,
    cache_read_nano_usd=st.none() | prices,
    cache_write_nano_usd=st.none() | prices,
    price_version=words,
)


@st.composite
def tiered_pricings(draw: st.DrawFn) -> v1.ModelPricing:
    """Price lists that get dearer above some prompt sizes, at the standard service tier and at others."""
    pricing = draw(pricings)
    pricing.cache_write_1h_nano_usd = draw(prices)
    base = [pricing.input_nano_usd, pricing.output_nano_usd]
    base += [draw(prices), draw(prices), pricing.cache_write_1h_nano_usd]
    pricing.cache_read_nano_usd, pricing.cache_write_nano_usd = base[2], base[3]
    for service_tier in ("", "flex", "priority"):
        now = [draw(prices) for _ in base] if service_tier else base
        for above in [0] * bool(service_tier) + sorted(
            draw(st.sets(st.sampled_from([1000, 10**6, 10**9]), max_size=2))
        ):
            now = [price + draw(prices) for price in now]
            pricing.tiers.add(
                above_input_tokens=above,
                service_tier=service_tier,
                input_nano_usd=now[0],
                output_nano_usd=now[1],
                cache_read_nano_usd=now[2],
                cache_write_nano_usd=now[3],
                cache_write_1h_nano_usd=now[4],
            )
    return pricing


logprobs = st.builds(v1.TokenLogprob, token=texts, logprob=st.floats(-50, 0))


@st.composite
def responses(draw: st.DrawFn) -> v1.ChatResponse:
    """Whole answers, as a dialect decodes them."""
    response = v1.ChatResponse(
        id=draw(words),
        model=draw(words),
        message=v1.Message(role=v1.ROLE_ASSISTANT, parts=draw(st.lists(answer_parts(), max_size=4))),
        finish_reason=draw(st.sampled_from(v1.FinishReason.values())),
        native_finish_reason=draw(words),
        stop_sequence=draw(texts),
        warnings=draw(st.lists(st.builds(v1.Warning, code=words, message=texts), max_size=2)),
    )
    if any(part.HasField("text") for part in response.message.parts):  # log probabilities belong to text
        response.logprobs.extend(draw(st.lists(logprobs, max_size=3)))
    if draw(st.booleans()):
        response.usage.CopyFrom(draw(usages()))
    if draw(st.booleans()):
        response.route.provider, response.route.model = draw(words), draw(words)
        response.route.provider_response_id = draw(words)
    if draw(st.booleans()):
        response.cache.status = draw(st.sampled_from(v1.CacheInfo.Status.values()))
        response.cache.age_seconds, response.cache.key = draw(small), draw(words)
    if draw(st.booleans()):
        response.create_time.seconds = draw(st.integers(0, 2**31))
    return response
