/** Every message, enum and service of `parley.v1`: `import * as v1 from "@parley-gateway/client/v1"`. */

export * from "./gen/parley/v1/cache_pb.js";
export * from "./gen/parley/v1/chat_pb.js";
export * from "./gen/parley/v1/content_pb.js";
export * from "./gen/parley/v1/embedding_pb.js";
export * from "./gen/parley/v1/error_pb.js";
export * from "./gen/parley/v1/gateway_service_pb.js";
export * from "./gen/parley/v1/generation_pb.js";
export * from "./gen/parley/v1/model_pb.js";
export * from "./gen/parley/v1/rerank_pb.js";
export * from "./gen/parley/v1/routing_pb.js";
export * from "./gen/parley/v1/tool_pb.js";
export * from "./gen/parley/v1/usage_pb.js";
