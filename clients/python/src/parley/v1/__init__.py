"""Every message, enum and enum value of `parley.v1`: `from parley import v1`, then `v1.ChatRequest`.

Written by `make gen`; do not edit.
"""

from parley.v1.cache_pb2 import (
    CacheBreakpoint as CacheBreakpoint,
    PromptCacheOptions as PromptCacheOptions,
)
from parley.v1.chat_pb2 import (
    ChatRequest as ChatRequest,
    ChatResponse as ChatResponse,
    FINISH_REASON_COMPACTION as FINISH_REASON_COMPACTION,
    FINISH_REASON_CONTENT_FILTER as FINISH_REASON_CONTENT_FILTER,
    FINISH_REASON_CONTEXT_WINDOW as FINISH_REASON_CONTEXT_WINDOW,
    FINISH_REASON_ERROR as FINISH_REASON_ERROR,
    FINISH_REASON_LENGTH as FINISH_REASON_LENGTH,
    FINISH_REASON_MALFORMED_OUTPUT as FINISH_REASON_MALFORMED_OUTPUT,
    FINISH_REASON_PAUSE as FINISH_REASON_PAUSE,
    FINISH_REASON_REFUSAL as FINISH_REASON_REFUSAL,
    FINISH_REASON_STOP as FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALL as FINISH_REASON_TOOL_CALL,
    FINISH_REASON_UNSPECIFIED as FINISH_REASON_UNSPECIFIED,
    FinishReason as FinishReason,
    Heartbeat as Heartbeat,
    PartCompleted as PartCompleted,
    PartDelta as PartDelta,
    PartStarted as PartStarted,
    ResponseCompleted as ResponseCompleted,
    ResponseStarted as ResponseStarted,
    StreamChatRequest as StreamChatRequest,
    StreamChatResponse as StreamChatResponse,
    StreamOptions as StreamOptions,
    TokenLogprob as TokenLogprob,
    UNSUPPORTED_POLICY_ERROR as UNSUPPORTED_POLICY_ERROR,
    UNSUPPORTED_POLICY_UNSPECIFIED as UNSUPPORTED_POLICY_UNSPECIFIED,
    UNSUPPORTED_POLICY_WARN as UNSUPPORTED_POLICY_WARN,
    UnsupportedPolicy as UnsupportedPolicy,
    Warning as Warning,
)
from parley.v1.content_pb2 import (
    AudioPart as AudioPart,
    Citation as Citation,
    DocumentPart as DocumentPart,
    IMAGE_DETAIL_HIGH as IMAGE_DETAIL_HIGH,
    IMAGE_DETAIL_LOW as IMAGE_DETAIL_LOW,
    IMAGE_DETAIL_MEDIUM as IMAGE_DETAIL_MEDIUM,
    IMAGE_DETAIL_ORIGINAL as IMAGE_DETAIL_ORIGINAL,
    IMAGE_DETAIL_UNSPECIFIED as IMAGE_DETAIL_UNSPECIFIED,
    ImageDetail as ImageDetail,
    ImagePart as ImagePart,
    IndexRange as IndexRange,
    MediaSource as MediaSource,
    Message as Message,
    Part as Part,
    ProviderPart as ProviderPart,
    ROLE_ASSISTANT as ROLE_ASSISTANT,
    ROLE_DEVELOPER as ROLE_DEVELOPER,
    ROLE_SYSTEM as ROLE_SYSTEM,
    ROLE_TOOL as ROLE_TOOL,
    ROLE_UNSPECIFIED as ROLE_UNSPECIFIED,
    ROLE_USER as ROLE_USER,
    ReasoningPart as ReasoningPart,
    RefusalPart as RefusalPart,
    ReplayState as ReplayState,
    Role as Role,
    ToolCall as ToolCall,
    ToolResult as ToolResult,
)
from parley.v1.embedding_pb2 import (
    EMBEDDING_ENCODING_FLOAT as EMBEDDING_ENCODING_FLOAT,
    EMBEDDING_ENCODING_FLOAT32_BYTES as EMBEDDING_ENCODING_FLOAT32_BYTES,
    EMBEDDING_ENCODING_UNSPECIFIED as EMBEDDING_ENCODING_UNSPECIFIED,
    EmbedInput as EmbedInput,
    EmbedRequest as EmbedRequest,
    EmbedResponse as EmbedResponse,
    Embedding as Embedding,
    EmbeddingEncoding as EmbeddingEncoding,
    FloatVector as FloatVector,
    TokenIds as TokenIds,
)
from parley.v1.error_pb2 import (
    ProviderError as ProviderError,
    ResponseFailure as ResponseFailure,
)
from parley.v1.gateway_service_pb2 import (
    GetServerInfoRequest as GetServerInfoRequest,
    GetServerInfoResponse as GetServerInfoResponse,
)
from parley.v1.generation_pb2 import (
    JsonObjectFormat as JsonObjectFormat,
    JsonSchemaFormat as JsonSchemaFormat,
    OutputOptions as OutputOptions,
    REASONING_EFFORT_HIGH as REASONING_EFFORT_HIGH,
    REASONING_EFFORT_LOW as REASONING_EFFORT_LOW,
    REASONING_EFFORT_MAX as REASONING_EFFORT_MAX,
    REASONING_EFFORT_MEDIUM as REASONING_EFFORT_MEDIUM,
    REASONING_EFFORT_MINIMAL as REASONING_EFFORT_MINIMAL,
    REASONING_EFFORT_NONE as REASONING_EFFORT_NONE,
    REASONING_EFFORT_UNSPECIFIED as REASONING_EFFORT_UNSPECIFIED,
    REASONING_EFFORT_XHIGH as REASONING_EFFORT_XHIGH,
    ReasoningEffort as ReasoningEffort,
    ReasoningOptions as ReasoningOptions,
    SamplingOptions as SamplingOptions,
    TextFormat as TextFormat,
)
from parley.v1.model_pb2 import (
    GetModelRequest as GetModelRequest,
    GetModelResponse as GetModelResponse,
    ListModelsRequest as ListModelsRequest,
    ListModelsResponse as ListModelsResponse,
    MODALITY_AUDIO as MODALITY_AUDIO,
    MODALITY_DOCUMENT as MODALITY_DOCUMENT,
    MODALITY_IMAGE as MODALITY_IMAGE,
    MODALITY_TEXT as MODALITY_TEXT,
    MODALITY_UNSPECIFIED as MODALITY_UNSPECIFIED,
    MODALITY_VIDEO as MODALITY_VIDEO,
    Modality as Modality,
    Model as Model,
    ModelLimits as ModelLimits,
    ModelPricing as ModelPricing,
    PriceTier as PriceTier,
)
from parley.v1.rerank_pb2 import (
    RerankRequest as RerankRequest,
    RerankResponse as RerankResponse,
    RerankResult as RerankResult,
)
from parley.v1.routing_pb2 import (
    Attempt as Attempt,
    FallbackTarget as FallbackTarget,
    RouteInfo as RouteInfo,
    RoutingOptions as RoutingOptions,
)
from parley.v1.tool_pb2 import (
    FunctionTool as FunctionTool,
    ProviderTool as ProviderTool,
    Tool as Tool,
    ToolChoice as ToolChoice,
)
from parley.v1.usage_pb2 import (
    Cost as Cost,
    Usage as Usage,
)
